// What nginx needs before it starts: its folders, and a configuration that stays in the foreground.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, web, application] = process.argv.slice(2);
mkdirSync(join(folder, 'nginx'), { recursive: true, mode: 0o700 });
const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  .map((kind) => `${kind}_temp_path nginx/${kind};`)
  .join('\n  ');
writeFileSync(
  join(folder, 'nginx.conf'),
  `daemon off;
worker_processes 1;
pid nginx/nginx.pid;
events {}
http {
  ${temporary}
  access_log off;
  server {
    listen 127.0.0.1:${web};
    location = /health { return 200 "well\\n"; }
    location / { proxy_pass http://127.0.0.1:${application}; }
  }
}
`,
);
