package advice

// What the scripts below have in common.
const (
	check    = "app-rollout check shop"
	asNobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups "
	heldShop = "echo GENERATION=two >>$env; app-rollout run shop; app-rollout rollback shop"

	// What is said on a machine of another kind is not said on this one.
	unlike = "app-rollout check shop >/root/said"

	// A run that takes so long that it can be seen.
	slow    = "echo SYSTEMD_CLUSTER_WATCH_SEC=4 >>$env"
	quick   = "cp /root/good.env $env; app-rollout run shop"
	watches = "systemctl show -P StatusText app-rollout@shop | grep -q watching"

	// Root's .env asks for what its former owner might not.
	asDaemon   = unstarted + "; app-rollout show shop | grep -qx User=daemon; " + anew
	asBefore   = unstarted + "; app-rollout show shop | grep -qx User=www-data; " + anew
	asBeforeIn = unstarted + "; app-rollout show shop >/root/said; grep -qx User=www-data /root/said; grep -qx WorkingDirectory=/opt /root/said; " + anew
	unstarted  = "systemctl stop 'shop@*.service'; " + check
	anew       = "rm -r $link /srv/shop; mkdir /srv/shop; cp /root/good.env $env; ln -s $env $link; app-rollout run shop"

	// No app is left, and it is there again.
	nothing   = "rm $link; mv $store /root/store; mv /run/app-rollout/shop /root/run"
	something = "mv /root/store $store; mv /root/run /run/app-rollout/shop"
)

// Commands are typed by TestAdvice. $env is the .env of the app shop, $link the link to
// it in /etc/app-rollout, and $store where its generations are kept.
var Commands = []Command{
	// The way to the .env.
	{Advice: "chmod o-w …", Before: "chmod 666 $env", Then: check},
	{Advice: "chmod g-w …", Before: "chgrp www-data $env; chmod 664 $env", Then: check},
	{Advice: "chown -h … …", Before: "ln -s $env /srv/shop/link; chown -h www-data /srv/shop/link; ln -sfn /srv/shop/link $link", Then: check},
	{Advice: "chown root …, and set SYSTEMD_USER=… in it, or …", Before: "rm $link; cp $env $link; echo SYSTEMD_MEMORY_MAX=100M >>$link; chown www-data $link",
		Do: "chown root $1; echo SYSTEMD_USER=$2 >>$1", Then: asBefore},
	{Advice: "point the link to … itself", Before: "rm -rf /srv/theirs; mkdir /srv/theirs; ln -s $env /srv/theirs/env; chown www-data /srv/theirs; ln -sfn /srv/theirs/env $link", Do: "ln -sfn $1 $link", Then: check},
	{Advice: "make it a file of its own: cp … ….new && mv ….new …", Before: "ln $env /srv/shop/other", Then: check},
	{Advice: "make it a regular file", Before: "rm $env; mkfifo $env", Do: "rm $env; cp /root/good.env $env", Then: check},
	{Advice: "create it or correct the path", Before: "mv $env /srv/shop/other", Do: "ln -sfn /srv/shop/other $link", Then: check},
	{Advice: "create it or correct the path", Before: "mv $env /srv/shop/other", Do: "cp /root/good.env $env", Then: check},
	{Advice: "correct the path", Before: "ln -sfn $env/x $link", Do: "ln -sfn $env $link", Then: check},
	{Advice: "point it to the real place", Before: "ln -sfn shop.env $link", Do: "ln -sfn $env $link", Then: check},
	{Advice: "move it up", Before: "dir=/srv/deep$(printf '/a%.0s' $(seq 130)); mkdir -p $dir; mv $env $dir/.env; ln -sfn $dir/.env $link",
		Do: "mv $(readlink $link) $env; ln -sfn $env $link; rm -r /srv/deep", Then: check},
	{Advice: "move the files to a local one", Before: "ln -sfn /proc/1/environ $link", Do: "ln -sfn $env $link", Then: check},
	{Advice: "end the program that holds a lease on it", Before: "python3 /root/lease.py $env >/dev/null 2>&1 & echo $! >/root/pid; until grep -q LEASE /proc/locks; do sleep 0.05; done",
		Do: "kill -KILL $(cat /root/pid)", Then: check},

	// The .env, where a machine is needed to follow.
	{Advice: "chmod +x it", Before: "cp /opt/apps/server /srv/shop/server; chmod 644 /srv/shop/server; echo SYSTEMD_EXEC_START=./server >>$env", Do: "chmod +x /srv/shop/server"},
	{Advice: "rename the directory", Before: `mkdir "/srv/it's"; echo "SYSTEMD_WORKING_DIRECTORY=\"/srv/it's\"" >>$env`,
		Do: `mv "/srv/it's" /srv/its; sed -i '/^SYSTEMD_WORKING/d' $env; echo SYSTEMD_WORKING_DIRECTORY=/srv/its >>$env`, Then: check + "; rmdir /srv/its"},
	{Advice: "chown it", Before: "chown 65535 $env", Do: "chown root $env", Then: check},
	{Advice: "to name another user: chown root …", Before: "chown www-data $env; echo SYSTEMD_USER=daemon >>$env", Then: asDaemon},
	{Advice: "to name another user, put an .env of root's at …", Before: "chown -R www-data /srv/shop; echo SYSTEMD_USER=daemon >>$env", Do: "cat $env >/root/env; rm $1; cp /root/env $1", Then: asDaemon},
	{Advice: "for another one, chown root …, and set SYSTEMD_USER=… in it", Before: "chown www-data $env; echo SYSTEMD_WORKING_DIRECTORY=/opt >>$env",
		Do: "chown root $1; echo SYSTEMD_USER=$2 >>$1", Then: asBeforeIn},
	{Advice: "for another one, put an .env of root's at …, with SYSTEMD_USER=… in it", Before: "chown -R www-data /srv/shop; echo SYSTEMD_WORKING_DIRECTORY=/opt >>$env",
		Do: "cat $env >/root/env; rm $1; cp /root/env $1; echo SYSTEMD_USER=$2 >>$1", Then: asBeforeIn},
	{Advice: "set it to the port that the app listens on", Before: "sed -i /^PORT=/d $env", Do: "echo PORT=8080 >>$env", Then: check},
	{Advice: "leave it out: app-rollout logs shows all output", Before: "echo \"SYSTEMD_EXEC_START='/opt/apps/server >/srv/shop/log'\" >>$env", Do: "sed -i '/>/d' $env; app-rollout logs shop", Then: check},

	// What lies in /etc/app-rollout.
	{Advice: "rename it", Before: "sed s/8080/8081/ $env >'/etc/app-rollout/My Shop.env'", Ask: "app-rollout check", Do: "mv '/etc/app-rollout/My Shop.env' /etc/app-rollout/my-shop.env", Then: "app-rollout check my-shop"},
	{Advice: "rename or remove it", Before: "touch /etc/app-rollout/README", Ask: "app-rollout check", Do: "rm /etc/app-rollout/README", Then: check},
	{Advice: "rename the file", Before: "printf '[Service]\nExecStart=/bin/true\n' >/etc/systemd/system/blog.service; sed s/8080/8081/ $env >/etc/app-rollout/blog.env", Ask: "app-rollout check blog",
		Do: "mv /etc/app-rollout/blog.env /etc/app-rollout/my-blog.env", Then: "app-rollout check my-blog; rm /etc/systemd/system/blog.service", Stays: true},
	{Advice: "move it away and create one", Before: "mv /etc/app-rollout /root/etc; touch /etc/app-rollout", Ask: "app-rollout status",
		Do: "mv /etc/app-rollout /root/file; mkdir /etc/app-rollout; ln -s $env $link; rm -r /root/etc", Then: check},
	{Advice: "put its .env, or a link to it, at …", Ask: "app-rollout run blog", Do: "sed s/8080/8081/ $env >$1", Then: "app-rollout run blog; rm /etc/app-rollout/blog.env; app-rollout run blog"},
	{Advice: "put an .env, or a link to one, into /etc/app-rollout", Before: nothing, Ask: "app-rollout logs", Do: "ln -s $env $link; " + something, Then: "app-rollout logs"},
	{Advice: "There are no apps: put an .env, or a link to one, into /etc/app-rollout, then: app-rollout run", Before: nothing, Ask: "app-rollout status",
		Do: "ln -s $env $link; " + something + "; app-rollout run", Then: "app-rollout status"},
	{Advice: "give one of them another, unless they listen on different addresses", Before: "cp $env /etc/app-rollout/blog.env", Ask: "app-rollout check",
		Do: "sed -i s/8080/8081/ /etc/app-rollout/blog.env", Then: check},
	{Advice: "not rolled out yet; next: app-rollout run …", Before: "sed s/8080/8081/ $env >/etc/app-rollout/blog.env", Ask: "app-rollout status blog", Do: "app-rollout run $1",
		Then: "app-rollout status blog; rm /etc/app-rollout/blog.env; app-rollout run blog"},

	// The machine.
	{Advice: "stop that, or give the app another port, unless the app listens on another address",
		Before: "systemd-run --unit=squatter python3 -m http.server 8085; sed s/8080/8085/ $env >/etc/app-rollout/blog.env; until ss -Hltn | grep -q :8085; do sleep 0.05; done",
		Ask:    "app-rollout check blog", Do: "systemctl stop squatter", Then: "app-rollout check blog"},
	{Advice: "enter it in /etc/fstab", Before: "mkdir -p /srv/disk /srv/shop/data; mount --bind /srv/disk /srv/shop/data; echo SYSTEMD_WORKING_DIRECTORY=/srv/shop/data >>$env",
		Do: "echo /srv/disk /srv/shop/data none bind 0 0 >>/etc/fstab", Then: check + "; umount /srv/shop/data; sed -i /srv/d /etc/fstab"},
	{Advice: "systemctl restart …", Before: "echo 0 >/proc/sys/net/ipv4/tcp_migrate_req", Then: check},
	{Advice: "see: systemctl status app-rollout-ports", Before: "echo 0 >/proc/sys/net/ipv4/tcp_migrate_req", Ask: "app-rollout status", Then: "systemctl restart app-rollout-ports", Stays: true},
	{Advice: "systemctl unmask …", Before: "systemctl mask app-rollout@shop.service", Ask: "app-rollout run shop"},
	{Advice: "systemctl unmask --runtime …", Before: "systemctl mask --runtime shop@.service"},
	{Advice: "use a newer one", Ask: "setarch --uname-2.6 app-rollout check shop", Do: unlike, Then: "! grep -q 'use a newer' /root/said", Stays: true},
	{Advice: "boot with systemd.unified_cgroup_hierarchy=1", Ask: "unshare --mount sh -c 'umount --recursive --lazy /sys/fs/cgroup; app-rollout check shop'",
		Do: unlike, Then: "! grep -q 'cgroup2 file system' /root/said", Stays: true},
	{Advice: "see whether a container or lockdown forbids it", Ask: "setpriv --bounding-set=-bpf,-sys_admin app-rollout check shop",
		Do: unlike, Then: "! grep -q 'cannot be loaded' /root/said", Stays: true},
	// Only apps that share a daemon-reload owe one at the end.
	{Advice: "when that is mended: systemctl daemon-reload", Before: "sed s/8080/8081/ $env >/etc/app-rollout/blog.env; echo SYSTEMD_CLUSTER_MODE=0 >>$env; app-rollout run; cp /root/good.env $env; findmnt -no SIZE -b /run >/root/size; mount -o remount,size=15M /run",
		Ask: "app-rollout run", Do: "mount -o remount,size=$(cat /root/size) /run; systemctl daemon-reload", Then: check + "; rm /etc/app-rollout/blog.env; app-rollout run blog", Stays: true},
	{Advice: "setfacl -b …", Before: "chmod 664 $env; setfacl -m user:www-data:rw $env", Then: check},
	{Advice: "point the links to the real place", Before: "mkdir /srv/shop/x; ln -sfn /srv/shop/$(printf 'x/../%.0s' $(seq 600)).env $link", Do: "ln -sfn $env $link", Then: check},
	{Advice: "to roll out without following: systemctl start …", Before: "chmod -x /usr/bin/journalctl", Ask: "app-rollout run shop", Do: "systemctl start $1", Then: "chmod +x /usr/bin/journalctl", Stays: true},
	{Advice: "try sudo", Ask: asNobody + "app-rollout run shop", Do: "app-rollout run shop", Stays: true},

	// What runs.
	{Advice: "app-rollout run … ends that", Before: heldShop, Do: "app-rollout run $1", Then: check},
	{Advice: "app-rollout run … ends the hold", Before: heldShop, Ask: "app-rollout run", Do: "app-rollout run $1"},
	{Advice: "a run for all apps leaves it alone, since it was rolled back; app-rollout run … ends that", Before: heldShop, Ask: "app-rollout status shop", Do: "app-rollout run $1"},
	{Advice: "stop it (systemctl stop …), then: …", Before: "echo SYSTEMD_USER=www-data >>$env", Ask: "app-rollout run shop", Do: "systemctl stop $1; $2",
		Then: "systemctl stop 'shop@*.service'; cp /root/good.env $env; app-rollout run shop"},
	{Advice: "see: app-rollout status", Before: "echo EXIT_AT_START=1 >>$env; sed s/8080/8081/ $env >/etc/app-rollout/blog.env", Ask: "app-rollout run", Stays: true, Then: "rm /etc/app-rollout/blog.env; app-rollout status"},
	{Advice: "let its .env ask for what is to serve, then: …", Before: "rm $link; app-rollout run; rm -r /var/lib/app-rollout/shop; ln -s $env $link; app-rollout run shop", Ask: "app-rollout rollback shop",
		Do: "echo GENERATION=new >>$env; $1", Stays: true, Then: "app-rollout rollback shop"},
	{Advice: "to roll out what its .env asks for: app-rollout run …", Before: "sed s/8080/8081/ $env >/etc/app-rollout/blog.env", Ask: "app-rollout rollback blog", Do: "app-rollout run $1",
		Stays: true, Then: "app-rollout status blog; rm /etc/app-rollout/blog.env; app-rollout run blog"},

	{Advice: "app-rollout rollback …", Before: "cp /opt/apps/server /srv/shop/server; echo SYSTEMD_EXEC_START=./server >>$env; app-rollout run shop; echo GENERATION=two >>$env; app-rollout run shop; mv /srv/shop/server /root/server",
		Ask: "app-rollout rollback shop", Do: "mv /root/server /srv/shop/server; app-rollout rollback $1", Stays: true},
	{Advice: "# Do not edit: … is where it comes from. For more: systemctl edit --force …", Ask: "app-rollout show shop", Stays: true,
		Do: "script --quiet --return --command 'SYSTEMD_EDITOR=/root/editor systemctl edit --force $2' /dev/null", Then: "app-rollout run shop; systemctl show -p Nice 'shop@*.service' | grep -qx Nice=5; rm -r /etc/systemd/system/shop@.service.d; systemctl daemon-reload"},

	{Advice: "stop that, or give the app another port, unless the app listens on another address",
		Before: "systemd-run --unit=squatter python3 -m http.server 8085; echo SYSTEMD_CLUSTER_READY_SEC=5 | cat $env - | sed s/8080/8085/ >/etc/app-rollout/blog.env; until ss -Hltn | grep -q :8085; do sleep 0.05; done",
		Ask:    "app-rollout run blog", Do: "systemctl stop squatter", Then: "app-rollout run blog; rm /etc/app-rollout/blog.env; app-rollout run blog"},
	{Advice: "give … another PORT, then: …", Before: "cp $env /etc/app-rollout/blog.env", Ask: "app-rollout run blog", Do: "sed -i s/8080/8081/ /etc/app-rollout/$1.env; $2",
		Then: "rm /etc/app-rollout/blog.env; app-rollout run blog", Stays: true},
	{Advice: "put the code that is to serve into …, then: …", Before: "mkdir /srv/blog; cp /opt/apps/server /srv/blog; echo SYSTEMD_EXEC_START=./server | cat $env - | sed s/8080/8081/ >/srv/blog/.env; ln -s /srv/blog/.env /etc/app-rollout/blog.env; app-rollout run blog; app-rollout run blog",
		Ask: "app-rollout rollback blog", Do: "cp /opt/apps/server $1/new; mv $1/new $1/server; $2", Stays: true, Then: "app-rollout status blog; rm /etc/app-rollout/blog.env; app-rollout run blog; rm -r /srv/blog /var/lib/app-rollout/blog"},

	{Advice: "to start what its .env asks for: app-rollout run …", Before: "sed s/8080/8081/ $env >/etc/app-rollout/blog.env; app-rollout run blog; systemctl stop 'blog@*.service'",
		Ask: "app-rollout restart blog", Then: "rm /etc/app-rollout/blog.env; app-rollout run blog"},
	{Advice: "put its .env back at …, then: app-rollout run …", Before: "sed s/8080/8081/ $env >/etc/app-rollout/blog.env; app-rollout run blog; mv /etc/app-rollout/blog.env /root/blog.env; app-rollout run blog",
		Ask: "app-rollout restart blog", Do: "mv /root/blog.env $1; app-rollout run $2", Then: "rm /etc/app-rollout/blog.env; app-rollout run blog"},
	{Advice: "app-rollout restart …", Before: "cp /opt/apps/server /srv/shop/server; echo SYSTEMD_EXEC_START=./server >>$env; app-rollout run shop; mv /srv/shop/server /root/server",
		Ask: "app-rollout restart shop", Do: "mv /root/server /srv/shop/server; app-rollout restart $1", Then: "app-rollout restart shop"},

	{Advice: "app-rollout run …, which ends the hold", Before: "app-rollout run shop; " + heldShop + "; echo EXIT_AT_START=1 >>$env; app-rollout run shop || :", Ask: "app-rollout status shop",
		Do: "cp /root/good.env $env; app-rollout run $1"},
	{Advice: "no longer followed; it goes on: journalctl -f -u …", Before: slow, Ask: "app-rollout run shop & until " + watches + "; do sleep 0.05; done; kill -INT $!; kill -TERM $!; wait $!",
		Do: "journalctl -f -u $1 >/root/said & until grep -q shop: /root/said; do sleep 0.05; done; kill $!", Stays: true, Then: quick},
	{Advice: "see: journalctl -u …", Before: slow, Ask: "app-rollout run shop & until " + watches + "; do sleep 0.05; done; pkill -x journalctl; wait $!",
		Do: "journalctl -u $1 | grep -q shop:", Stays: true, Then: quick},

	// What is kept.
	{Advice: "chown -R root: …", Before: "chown -R www-data $store", Ask: "app-rollout run shop", Do: "chown -R root: $1"},
	{Advice: "start the app anew: app-rollout run …", Before: "echo x >$store/current/unit", Ask: "systemctl daemon-reload; journalctl --sync; journalctl -b -o cat | grep 'start the app anew' | tail -n 1",
		Do: "app-rollout run $1", Stays: true, Then: "systemctl daemon-reload; " + check},
	{Advice: "point it to one of … that was ready, or remove it and start anew: app-rollout run …", Before: "ln -sfn generations/999 $store/current", Ask: "app-rollout run shop",
		Do: "rm $store/current; app-rollout run $2"},
	{Advice: "move its directory away to let the app be rolled out anew", Before: "app-rollout run shop; app-rollout run shop; echo x >$store/generations/$(ls $store/generations | sort -n | head -1)/generation.json",
		Ask: "app-rollout history shop", Do: "rm -rf /root/away; mv $store/generations/$(ls $store/generations | sort -n | head -1) /root/away"},
	{Advice: "remove it", Before: "echo x >/run/app-rollout/shop/instances.json", Ask: "app-rollout run shop", Do: "rm /run/app-rollout/shop/instances.json"},
	{Advice: "remove it", Before: "echo x >$store/rejected", Ask: "app-rollout run shop", Do: "rm $store/rejected"},
}
