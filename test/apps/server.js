// The Node sample: one line of HTTP, on a port that the instances share by
// themselves (reusePort: Node 22.12 or newer). It has no SIGTERM handler.
const { createServer } = require("node:http");

const answer = `${process.env.GENERATION ?? "-"} ${process.env.SYSTEMD_INSTANCE ?? "-"} ${process.pid}\n`;
const server = createServer((req, res) => {
  res.writeHead(200, { "Content-Type": "text/plain" });
  res.end(answer);
});
server.listen({ host: "127.0.0.1", port: Number(process.env.PORT), reusePort: process.env.NO_REUSEPORT !== "1" });
