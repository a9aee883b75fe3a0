// Asks a URL again and again with one of Node's HTTP clients, which keeps its
// connections, until the file /run/enough appears. Prints how often it has asked, and
// each failure.
//
//	clients.js fetch|agent METHOD PAUSE URL
//
// PAUSE is between two requests, in seconds.
const fs = require('node:fs'), http = require('node:http');

const [library, method, pause, url] = process.argv.slice(2);
const body = method === 'POST' ? 'x'.repeat(1000) : undefined;
const agent = new http.Agent({ keepAlive: true });

const asks = {
  async fetch() {
    const answer = await fetch(url, { method, body });
    await answer.text();
    return answer.status;
  },
  agent() {
    return new Promise((resolve, reject) => {
      const request = http.request(url, { method, agent }, (answer) => {
        answer.resume().on('end', () => resolve(answer.statusCode)).on('error', reject);
      });
      request.on('error', reject).end(body);
    });
  },
};

(async () => {
  let asked = 0;
  const failed = [];
  while (!fs.existsSync('/run/enough')) {
    try {
      const status = await asks[library]();
      asked++;
      if (status !== 200) failed.push(`status ${status}`);
    } catch (failure) {
      failed.push(String(failure.cause || failure));
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
  }
  agent.destroy();
  console.log(JSON.stringify({ asked, failed }));
})();
