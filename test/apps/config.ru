# The Rack sample, for unicorn and puma.
answer = "#{ENV.fetch('GENERATION', '-')} #{ENV.fetch('SYSTEMD_INSTANCE', '-')} #{Process.ppid}\n"
run ->(_env) { [200, { "content-type" => "text/plain", "content-length" => answer.bytesize.to_s }, [answer]] }
