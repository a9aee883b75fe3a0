package units

import (
	"strings"
	"testing"
)

func TestNamesUnixSocket(t *testing.T) {
	for command, want := range map[string]unixSocket{
		"/usr/bin/gunicorn --bind 127.0.0.1:8000 wsgi:app":                            noSocket,
		"/usr/bin/gunicorn --bind unix:/run/shop/s.sock wsgi:app":                     boundSocket,
		"/usr/bin/gunicorn --bind=unix:/run/shop/s.sock wsgi:app":                     boundSocket,
		"/usr/bin/gunicorn -b unix:/run/shop/s.sock wsgi:app":                         boundSocket,
		"/usr/bin/gunicorn -bunix:/run/shop/s.sock wsgi:app":                          boundSocket,
		"/usr/bin/gunicorn -b unix:s.sock wsgi:app":                                   noSocket,
		"/usr/bin/gunicorn -b unix:/tmp/s.sock wsgi:app":                              noSocket,
		"/usr/bin/python3 -m gunicorn -b 127.0.0.1:80 -b unix:/run/s.sock wsgi:app":   boundSocket,
		"/usr/bin/puma -b unix:///run/shop/s.sock":                                    boundSocket,
		"/usr/bin/uvicorn --uds /run/shop/s.sock main:app":                            boundSocket,
		"/usr/bin/uwsgi --socket /run/shop/s.sock --wsgi-file wsgi.py":                boundSocket,
		"/usr/bin/uwsgi_python3 -s /run/shop/s.sock --wsgi-file wsgi.py":              boundSocket,
		"/usr/bin/uwsgi --socket 127.0.0.1:3031 --wsgi-file wsgi.py":                  noSocket,
		"/opt/shop/server --socket /run/shop/s.sock":                                  namedSocket,
		"/opt/shop/server --mysql-socket=/run/mysqld/mysqld.sock":                     namedSocket,
		"/opt/shop/server unix:/run/shop/s.sock":                                      namedSocket,
		"/opt/shop/server --log /run/shop/log":                                        noSocket,
		"/bin/sh -c 'exec gunicorn -b unix:/run/shop/s.sock wsgi:app'":                boundSocket,
		"/bin/sh -c 'exec gunicorn -b unix:/run/s-$SYSTEMD_INSTANCE.sock wsgi:app'":   noSocket,
		"/usr/bin/gunicorn -b 'unix:/run/s-$SYSTEMD_INSTANCE.sock' wsgi:app":          boundSocket,
		"/bin/sh -c \"exec gunicorn -b 'unix:/run/shop/s.sock' wsgi:app\"":            boundSocket,
		"/usr/bin/env X=1 gunicorn --workers 2 --bind unix:/run/shop/s.sock wsgi:app": boundSocket,
	} {
		words, why := splitWords(command)
		if why != "" {
			t.Fatal(why)
		}
		if got := namesUnixSocket(words); got != want {
			t.Errorf("%s: %d, want %d", command, got, want)
		}
	}
}

// TestUnixSocketRefused: an app that is reached by one Unix socket only cannot be
// replaced by instances that start beside those that serve.
func TestUnixSocketRefused(t *testing.T) {
	const refused, warned = "listens on a Unix socket", "names a Unix socket"
	for _, c := range []struct{ lines, command, want string }{
		{"SYSTEMD_CLUSTER_MODE=1", "/usr/bin/shop --bind unix:/run/s.sock", refused},
		{"SYSTEMD_CLUSTER_MODE=1\nPORT=8080", "/usr/bin/shop --bind unix:/run/s.sock", warned},
		{"SYSTEMD_CLUSTER_MODE=1", "/usr/bin/shop --socket /run/s.sock", warned},
		{"SYSTEMD_CLUSTER_MODE=0", "/usr/bin/shop --bind unix:/run/s.sock", ""},
		{"SYSTEMD_CLUSTER_MODE=1", `/bin/sh -c "exec shop --bind unix:/run/s-$SYSTEMD_INSTANCE.sock"`, ""},
	} {
		l := tree(t, map[string]string{
			"/usr/bin/shop": "#!", "/bin/sh": "#!",
			"/etc/app-rollout/shop.env": c.lines + "\nSYSTEMD_EXEC_START='" + c.command + "'\n",
		})
		said := ""
		spec, err := l.Read("shop")
		if err != nil {
			said = err.Error()
		} else {
			for _, w := range spec.Warnings {
				said += w.Error() + "\n"
			}
		}
		if has := strings.Contains(said, "Unix socket"); has != (c.want != "") || !strings.Contains(said, c.want) || (err != nil) != (c.want == refused) {
			t.Errorf("%s, %s: want %q, said %q, %v", c.lines, c.command, c.want, said, err)
		}
	}
}
