// The app of the benchmark, the same for every way to deploy: one line of HTTP.
// GET /?delay=3s is answered after three seconds.
// STOP=graceful makes it end as a careful app does: for half a second it tells
// whoever asks on a kept connection that it is the last answer there, then it
// closes; five seconds later also what a proxy has opened and never used, which
// Node waits for without an end. Otherwise it dies of SIGTERM.
// BAD=1 is the bad deploy: it answers 500 for five seconds and exits.
const { createServer } = require("node:http");

const bad = process.env.BAD === "1";
const instance = process.env.SYSTEMD_INSTANCE ?? process.env.INSTANCE ?? process.env.NODE_APP_INSTANCE ?? "-";
const answer = `${process.env.GENERATION ?? "-"} ${instance} ${process.pid}\n`;
let stopping = false;
const server = createServer((req, res) => {
  const reply = () => {
    const headers = { "Content-Type": "text/plain", "Content-Length": bad ? 4 : answer.length };
    if (stopping) headers.Connection = "close";
    res.writeHead(bad ? 500 : 200, headers);
    res.end(bad ? "bad\n" : answer);
  };
  const delay = /[?&]delay=(\d+)s/.exec(req.url);
  if (delay) setTimeout(reply, 1000 * delay[1]);
  else reply();
});
// PM2 wants to be told.
const options = { host: "127.0.0.1", port: Number(process.env.PORT), reusePort: process.env.REUSEPORT === "1" };
server.listen(options, () => process.send?.("ready"));
if (bad) setTimeout(() => process.exit(1), 5000);
if (process.env.STOP === "graceful") {
  for (const signal of ["SIGTERM", "SIGINT"]) {
    process.once(signal, () => {
      stopping = true;
      setTimeout(() => server.close(() => process.exit(0)), 500);
      setTimeout(() => server.closeAllConnections(), 5500);
    });
  }
}
