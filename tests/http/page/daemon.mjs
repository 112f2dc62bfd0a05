// A real daemon in folders of its own, with the HTTP door on a free port.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const TOKENS = { all: 'token-with-every-right', guest: 'token-that-may-draw' };
/** Time within which the daemon must open its door, or leave. */
const PATIENCE_MS = 30_000;

const settings = (folder) => `
default_model = "pocket-flux"
[pool]
cold_start_workers = 1
max_workers_per_model = 1
[http]
listen = "127.0.0.1:0"
[http.tokens.all]
file = ${JSON.stringify(join(folder, 'all.token'))}
rights = ["generate", "operate", "metrics"]
[http.tokens.guest]
file = ${JSON.stringify(join(folder, 'guest.token'))}
rights = ["generate"]
[models.slow]
family = "synthetic"
params = { step_ms = 400, load_ms = 1, weights_mb = 1 }
`;

/** A running daemon. */
export class Daemon {
  #process;
  #folder;
  log = '';

  static async start() {
    const daemon = new Daemon();
    const folder = mkdtempSync(join(tmpdir(), 'imagepool-page-'));
    daemon.#folder = folder;
    for (const [name, text] of Object.entries(TOKENS)) writeFileSync(join(folder, `${name}.token`), `${text}\n`, { mode: 0o600 });
    writeFileSync(join(folder, 'imagepool.toml'), settings(folder));
    daemon.#process = spawn(join(process.env.PROGRAMS, 'supervisor'),
      ['--config', join(folder, 'imagepool.toml'), '--runtime-dir', join(folder, 'run')],
      { stdio: ['ignore', 'ignore', 'pipe'] });
    daemon.port = await daemon.#opened();
    return daemon;
  }

  /** Reads the log up to the line with the door's address. */
  #opened() {
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new Error(`the daemon ${why}; its log:\n${this.log}`));
      const timer = setTimeout(() => fail('does not open its HTTP door'), PATIENCE_MS);
      this.#process.on('exit', (code) => fail(`left with exit code ${code}`));
      this.#process.stderr.setEncoding('utf8').on('data', (text) => {
        this.log += text;
        const port = /HTTP door open.* address="?127\.0\.0\.1:(\d+)/.exec(this.log)?.[1];
        if (port) { clearTimeout(timer); resolve(Number(port)); }
      });
    });
  }

  /** The page's address for the holder of a token. */
  page(token = 'all') {
    return token ? `http://127.0.0.1:${this.port}/#token=${TOKENS[token]}` : `http://127.0.0.1:${this.port}/`;
  }

  token(name) {
    return TOKENS[name];
  }

  /** An answer of the door, as JSON. */
  async ask(path) {
    const response = await fetch(`http://127.0.0.1:${this.port}${path}`, { headers: { Authorization: `Bearer ${TOKENS.all}` } });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** Ends the daemon and removes its folders. */
  async stop() {
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    const killer = setTimeout(() => this.#process.kill('SIGKILL'), PATIENCE_MS);
    if (this.#process.exitCode === null) {
      this.#process.kill('SIGTERM');
      await gone;
    }
    clearTimeout(killer);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
