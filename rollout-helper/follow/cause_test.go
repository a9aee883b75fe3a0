package follow

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What failed runs of real runtimes logged: the cause is in what is shown, and
// what is shown begins with the error. The logs are those of Debian 12's Node,
// Python, Java, Ruby, PHP and Go, with programs that were broken on purpose.
func TestCause(t *testing.T) {
	for name, c := range map[string]struct{ first, cause string }{
		"bundler":               {"/usr/share/rubygems-integration", "Could not find gem 'sinatra (~> 4.0)'"},
		"go-fatal":              {"", "listen tcp 192.0.2.1:3000: bind: cannot assign requested address"},
		"go-map":                {"fatal error: ", "fatal error: concurrent map writes"},
		"go-nil":                {"panic: ", "/srv/shop/go/main.go:14"},
		"go-panic":              {"panic: ", "open the database: DATABASE_URL is not set"},
		"gunicorn":              {"ConnectionRefusedError: ", "ConnectionRefusedError: [Errno 111] Connection refused"},
		"gunicorn-flask":        {"[2026-12-01 04:40:26 +0000] [18395] [ERROR] ", "ModuleNotFoundError: No module named 'flask_sqlalchemy'"},
		"java":                  {"Exception in thread ", "Caused by: java.net.ConnectException: Connection refused"},
		"java-class":            {"Error: ", "Could not find or load main class Missing"},
		"node-database":         {"Error: ", "connect ECONNREFUSED 127.0.0.1:5432"},
		"node-esm":              {"Error [ERR_MODULE_NOT_FOUND]: ", "Cannot find module '/srv/shop/lib/start.js'"},
		"node-json":             {`{"level":"error"`, "ENOENT: no such file or directory"},
		"node-module":           {"Error: ", "Cannot find module 'express'"},
		"node-rejected":         {"[UnhandledPromiseRejection: ", `with the reason "#<Object>"`},
		"node-settings":         {"/srv/shop/settings.js:2", "DATABASE_URL is not set"},
		"node-syntax":           {"/srv/shop/syntax.js:3", "missing ) after argument list"},
		"node-taken":            {"Error: ", "listen EADDRINUSE: address already in use :::3000"},
		"npm-start":             {"Error: ", "Cannot find module 'express'"},
		"php":                   {"PHP Fatal error: ", "unable to open database file"},
		"php-syntax":            {"PHP Parse error: ", `unexpected token "}", expecting ";"`},
		"puma":                  {"! Unable to load application: ", "cannot load such file -- shop/application"},
		"python-chained":        {"Traceback ", "RuntimeError: LISTEN_PORT is not set"},
		"python-exit":           {"starting", "config.toml: no section [database]"},
		"python-recovered":      {"Traceback ", "KeyError: 'orders'"},
		"python-recovered-exit": {"ConnectionRefusedError: ", "migration 0042_orders is not applied"},
		"python-syntax":         {`  File "/srv/shop/syntax.py", line 1`, "expected ':'"},
		"ruby-database":         {"database.rb:6", "the database does not answer"},
		"ruby-gem":              {"<internal:", "cannot load such file -- sinatra"},
		"shell":                 {"sh: 1: cd: ", "can't cd to current"},
		"unicorn":               {"<internal:", "cannot load such file -- shop/application"},
		"uvicorn":               {"Traceback ", "ModuleNotFoundError: No module named 'sqlalchemy'"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata/causes", name+".log"))
			if err != nil {
				t.Fatal(err)
			}
			shown := cause(strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"))
			t.Logf("\n%s", strings.Join(shown, "\n"))
			if !strings.HasPrefix(shown[0], c.first) {
				t.Errorf("it begins with %q, not with %q", shown[0], c.first)
			}
			if !slices.ContainsFunc(shown, func(line string) bool { return strings.Contains(line, c.cause) }) {
				t.Errorf("%q is not shown", c.cause)
			}
			if len(shown) > mostShown {
				t.Errorf("%d lines are shown", len(shown))
			}
		})
	}
}
