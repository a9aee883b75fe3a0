package advice

import (
	"fmt"
	"strings"
)

// Spellings are tried by TestSpellings.
var Spellings = []Spelling{
	{Advice: "did you mean …?", Before: exec + "SYSTEMD_CLUSTER_NODE=3\n", After: exec + "SYSTEMD_CLUSTER_NODES=3\n"},
	{Advice: "see: man app-rollout.env", Before: exec + "SYSTEMD_FROBNICATE=3\n", After: exec},
	{Advice: "set that too, or remove the line", Before: exec + "SYSTEMD_CLUSTER_NODES=3\n", After: exec + "SYSTEMD_CLUSTER_NODES=3\nSYSTEMD_CLUSTER_MODE=1\n"},
	{Advice: "set that too, or remove the line", Before: exec + "SYSTEMD_CLUSTER_NODES=3\n", After: exec},
	{Advice: "give it a value or remove the line", Before: exec + "SYSTEMD_CLUSTER_NODES=\n", After: exec},
	{Advice: "give it a value or remove the line", Before: exec + "SYSTEMD_CLUSTER_NODES=\n", After: exec + "SYSTEMD_CLUSTER_NODES=3\n"},
	{Advice: "write the value out", Before: exec + "N=3\nSYSTEMD_CLUSTER_NODES=\"$N\"\n", After: exec + "N=3\nSYSTEMD_CLUSTER_NODES=3\n"},
	{Advice: "write the value out", Before: exec + "PORT=${P:-3000}\n", After: exec + "PORT=3000\n", Want: map[string]string{"PORT": "3000"}},
	{Advice: "set SYSTEMD_USER too", Before: exec + "SYSTEMD_PRIVATE_TMP=no\n", After: exec + "SYSTEMD_PRIVATE_TMP=no\nSYSTEMD_USER=alice\n"},
	{Advice: "remove it", Before: exec + "NOTIFY_SOCKET=/run/x\n", After: exec},
	{Advice: "remove it", Before: exec + "A='x\ufffe'\n", After: exec + "A=x\n", Want: map[string]string{"A": "x"}},
	{Advice: "give yours another name, like APP_…", Before: exec + "CACHE_DIRECTORY=/srv/cache\n", After: exec + "APP_CACHE_DIRECTORY=/srv/cache\n",
		Want: map[string]string{"APP_CACHE_DIRECTORY": "/srv/cache"}},
	{Advice: "let it say what to run", Before: "A=1\n", After: exec + "A=1\n"},
	{Advice: "it is …", Before: "SYSTEMD_EXEC_START='app --now'\n", After: "SYSTEMD_EXEC_START='/usr/bin/app --now'\n"},
	{Advice: "it is …", Before: "SYSTEMD_EXEC_START='/bin/app --now'\n", After: "SYSTEMD_EXEC_START='/usr/bin/app --now'\n"},
	{Advice: "begin with the path", Before: "SYSTEMD_EXEC_START=-/usr/bin/app\n", After: exec},
	{Advice: "name a directory above them", Before: exec + "SYSTEMD_READ_WRITE_PATHS='" + strings.Repeat("/srv/shop/data ", 65) + "'\n", After: exec + "SYSTEMD_READ_WRITE_PATHS=/srv/shop\n"},

	// How the text is read.
	{Advice: "use single quotes around a value with spaces, quotes or several lines", Before: exec + "A=\"x\n", After: exec + "A='\"x'\n", Want: map[string]string{"A": `"x`}},
	{Advice: "use single quotes around a value with spaces, quotes or several lines", Before: exec + "A=one\ntwo\n", After: exec + "A='one\ntwo'\n", Want: map[string]string{"A": "one\ntwo"}},
	{Advice: "use single quotes around values with a $", Before: exec + doubled("\""), After: exec + doubled("'"), Want: map[string]string{"A1": "$A0$A0"}},
	{Advice: "save the file as UTF-8", Before: exec + "A=caf\xe9\n", After: exec + "A=café\n", Want: map[string]string{"A": "café"}},
	{Advice: "save the file as plain text in UTF-8", Before: exec + "A\x00=1\x00\n", After: exec + "A=1\n", Want: map[string]string{"A": "1"}},
	{Advice: "keep large values in files of their own", Before: exec + "A=" + strings.Repeat("x", 65<<10) + "\n", After: exec + "A_FILE=/srv/shop/a\n"},
	{Advice: "keep it in a file of its own", Before: exec + "A=" + strings.Repeat("x", 40000) + "\nB=$A$A$A$A\n", After: exec + "B_FILE=/srv/shop/b\n"},
	{Advice: "keep the others in a file that the app reads itself", Before: exec + many(), After: exec + "APP_CONFIG=/srv/shop/config\n"},
	{Advice: "make it of letters, digits and _, and do not begin it with a digit", Before: exec + "1ST.NAME=x\n", After: exec + "FIRST_NAME=x\n", Want: map[string]string{"FIRST_NAME": "x"}},
	{Advice: "use the directories themselves, as in /opt/shop/bin:/usr/local/bin:/usr/bin:/bin", Before: exec + "PATH=/opt/shop/bin:$PATH\n",
		After: exec + "PATH=/opt/shop/bin:/usr/local/bin:/usr/bin:/bin\n", Want: map[string]string{"PATH": "/opt/shop/bin:/usr/local/bin:/usr/bin:/bin"}},
	{Advice: "use the value itself", Before: exec + "A=$A\n", After: exec + "A=x\n", Want: map[string]string{"A": "x"}},
	{Advice: "use the value itself", Before: exec + "A=${B:-x}\n", After: exec + "A=x\n", Want: map[string]string{"A": "x"}},
	{Advice: "use what the command prints, or single quotes to keep it", Before: exec + "A=$(hostname)\n", After: exec + "A=web1\n", Want: map[string]string{"A": "web1"}},
	{Advice: "use what the command prints, or single quotes to keep it", Before: exec + "A=$(hostname)\n", After: exec + "A='$(hostname)'\n", Want: map[string]string{"A": "$(hostname)"}},
	{Advice: "use single quotes to keep it", Before: exec + "A=pa$WORD\n", After: exec + "A='pa$WORD'\n", Want: map[string]string{"A": "pa$WORD"}},
	{Advice: "use single quotes to keep it, or put a blank after the #", Before: exec + "A=abc #def\n", After: exec + "A='abc #def'\n", Want: map[string]string{"A": "abc #def"}},
	{Advice: "use single quotes to keep it, or put a blank after the #", Before: exec + "A=abc #def\n", After: exec + "A=abc # def\n", Want: map[string]string{"A": "abc"}},
	{Advice: "use quotes, or leave it empty", Before: exec + "A=#x\n", After: exec + "A='#x'\n", Want: map[string]string{"A": "#x"}},
	{Advice: "use quotes, or leave it empty", Before: exec + "A=#x\n", After: exec + "A=\n", Want: map[string]string{"A": ""}},
	{Advice: "use single quotes", Before: exec + "A=a # b # c\n", After: exec + "A='a # b # c'\n", Want: map[string]string{"A": "a # b # c"}},
	{Advice: "use single quotes", Before: exec + `A="x\""` + "\n", After: exec + `A='x"'` + "\n", Want: map[string]string{"A": `x"`}},
	{Advice: "use single quotes instead", Before: exec + "A=`x y`\n", After: exec + "A='x y'\n", Want: map[string]string{"A": "x y"}},

	// The command.
	{Advice: unixSocket, Before: mode1 + "SYSTEMD_EXEC_START='/usr/bin/gunicorn --bind unix:/run/shop.sock app'\n", After: mode1 + "SYSTEMD_EXEC_START='/usr/bin/gunicorn --bind 127.0.0.1:3000 app'\nPORT=3000\n"},
	{Advice: unixSocket, Before: mode1 + "SYSTEMD_EXEC_START='/usr/bin/gunicorn --bind unix:/run/shop.sock app'\n", After: "SYSTEMD_EXEC_START='/usr/bin/gunicorn --bind unix:/run/shop.sock app'\n"},
	{Advice: unixSocket, Before: mode1 + "SYSTEMD_EXEC_START='/usr/bin/gunicorn --bind unix:/run/shop.sock app'\n",
		After: mode1 + "SYSTEMD_EXEC_START='/usr/bin/sh -c \"exec /usr/bin/gunicorn --bind unix:/run/shop.$SYSTEMD_INSTANCE.sock app\"'\n"},
	{Advice: "let clients use PORT alone, or set SYSTEMD_CLUSTER_MODE=0", Before: mode1 + "PORT=3000\nSYSTEMD_EXEC_START='/usr/bin/gunicorn --bind unix:/run/shop.sock app'\n",
		After: mode1 + "PORT=3000\nSYSTEMD_EXEC_START='/usr/bin/gunicorn --bind 127.0.0.1:3000 app'\n"},
	{Advice: "leave it out: app-rollout logs shows all output", Before: "SYSTEMD_EXEC_START='/usr/bin/app >/srv/log 2>&1'\n", After: exec},
	{Advice: "leave it out: systemd does that", Before: "SYSTEMD_EXEC_START='/usr/bin/app &'\n", After: exec},
	{Advice: "put the commands into a script, with exec before the server", Before: "SYSTEMD_EXEC_START='/bin/migrate && /usr/bin/app'\n", After: "SYSTEMD_EXEC_START=/srv/shop/script\n"},
	{Advice: "put it into a script, with exec before the server", Before: "SYSTEMD_EXEC_START='/usr/bin/app `hostname`'\n", After: "SYSTEMD_EXEC_START=/srv/shop/script\n"},
	{Advice: "let the app read a secret from its environment", Before: "SECRET=x\nSYSTEMD_EXEC_START=\"/usr/bin/app $SECRET\"\n", After: "SECRET=x\n" + exec, Want: map[string]string{"SECRET": "x"}},
	{Advice: "write it relative to the working directory", Before: "SYSTEMD_WORKING_DIRECTORY=/srv/shop/current\nSYSTEMD_EXEC_START='/usr/bin/app /srv/shop/current/x'\n",
		After: "SYSTEMD_WORKING_DIRECTORY=/srv/shop/current\nSYSTEMD_EXEC_START='/usr/bin/app ./x'\n"},
	{Advice: "name that directory in SYSTEMD_WORKING_DIRECTORY, and leave the cd out", Before: "SYSTEMD_EXEC_START='/usr/bin/sh -c \"cd /srv/shop/current && exec ./x\"'\n",
		After: "SYSTEMD_WORKING_DIRECTORY=/srv/shop/current\nSYSTEMD_EXEC_START=./x\n"},
	{Advice: "deploy each release into a new directory, and move a link to it", Before: exec, After: exec + "SYSTEMD_WORKING_DIRECTORY=/srv/shop/current\n"},
}

const (
	mode1      = "SYSTEMD_CLUSTER_MODE=1\n"
	unixSocket = "let it listen on PORT, or set SYSTEMD_CLUSTER_MODE=0, or give each instance a path of its own, with $SYSTEMD_INSTANCE in a sh -c"
)

// doubled are variables of which each holds the one before it twice, in such quotes.
func doubled(quote string) string {
	text := "A0=" + strings.Repeat("x", 100) + "\n"
	for i := range 20 {
		text += fmt.Sprintf("A%d=%s$A%d$A%d%s\n", i+1, quote, i, i, quote)
	}
	return text
}

// many are more variables than an app may have.
func many() string {
	text := ""
	for i := range 1001 {
		text += fmt.Sprintf("A%d=1\n", i)
	}
	return text
}
