worker_processes 2
listen '127.0.0.1:8080', :reuseport => true
logger Logger.new(IO::NULL)
