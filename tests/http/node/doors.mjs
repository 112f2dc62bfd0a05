// The two ways into a daemon, and clients that count what they send.

import OpenAI from "openai";
import { Agent, fetch as undiciFetch } from "undici";

const env = (name) => process.env[name] ?? assertSet(name);
const assertSet = (name) => {
  throw new Error(`${name} is not set: tests/http/run sets it`);
};

/** One of a daemon's sockets: `unix` or `tcp`. */
class Door {
  constructor(kind, daemon) {
    this.kind = kind;
    this.url = kind === "unix" ? "http://localhost" : env(`${daemon}_TCP`);
    this.token = env(`${daemon}_DRAW`);
    this.dispatcher =
      kind === "unix" ? new Agent({ connect: { socketPath: env(`${daemon}_SOCKET`) } }) : new Agent();
  }

  /** `fetch` through this socket. */
  fetch = (url, init) => undiciFetch(url, { ...init, dispatcher: this.dispatcher });

  /** A stock client. `sent` has the time of each request. */
  client({ token = this.token, maxRetries = 0, timeout = 60_000 } = {}) {
    const sent = [];
    const client = new OpenAI({
      baseURL: `${this.url}/v1`,
      apiKey: token,
      maxRetries,
      timeout,
      fetch: (url, init) => {
        sent.push({ at: performance.now(), body: init.body });
        return this.fetch(url, init);
      },
    });
    return { client, sent };
  }

  /** The report of everything. */
  async status() {
    const answer = await this.fetch(`${this.url}/v1/pool/status`, {
      headers: { authorization: `Bearer ${this.token}` },
    });
    return answer.json();
  }

  /** Waits until the status is as `holds` says. */
  async waitFor(holds, seconds) {
    const end = performance.now() + seconds * 1000;
    for (;;) {
      const status = await this.status();
      if (holds(status)) return;
      if (performance.now() > end) throw new Error(`not within ${seconds} s: ${JSON.stringify(status)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** Both sockets of a daemon. */
export const doors = (daemon) => [new Door("unix", daemon), new Door("tcp", daemon)];
