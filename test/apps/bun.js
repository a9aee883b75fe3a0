Bun.serve({ hostname: '127.0.0.1', port: Number(process.env.PORT), reusePort: true,
  fetch: () => new Response(process.env.GENERATION + ' ' + process.env.SYSTEMD_INSTANCE + '\n') });
