// Calls into a worker as promises, and what the worker says unasked as messages (`protocol.ts`).

import type { Calls, Message, Problem, Request } from "./protocol";

/** A refusal of a call or the end of a worker. */
export class EngineError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
    this.name = "EngineError";
  }
}

/** Messages that a worker sends unasked. */
export type Broadcast = Exclude<Message, { kind: "response" | "refusal" }>;

interface Pending {
  resolve(value: unknown): void;
  reject(error: EngineError): void;
}

/** One worker and the calls that it has not yet responded to. */
export class Client {
  private readonly pending = new Map<number, Pending>();
  private readonly listeners = new Set<(message: Broadcast) => void>();
  private nextId = 1;
  private ended: Problem | null = null;
  private port: Worker;

  /** With `revives`, the call after the end of the worker goes to a new one: for work that keeps no state. */
  constructor(
    private readonly makePort: () => Worker,
    private readonly revives = false,
  ) {
    this.port = this.open();
  }

  private open(): Worker {
    const port = this.makePort();
    this.ended = null;
    port.onmessage = (event) => this.receive(event.data as Message);
    port.onerror = (event) => {
      event.preventDefault?.();
      this.fail(crashed(event.message));
    };
    port.onmessageerror = () => this.fail(crashed("a message could not be read"));
    return port;
  }

  /** Asks the worker; rejects with an `EngineError`. */
  call<K extends keyof Calls>(name: K, ...args: Parameters<Calls[K]>): Promise<ReturnType<Calls[K]>> {
    if (this.ended && this.revives) this.port = this.open();
    if (this.ended) return Promise.reject(new EngineError(this.ended));
    const id = this.nextId;
    this.nextId += 1;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve: resolve as (value: unknown) => void, reject });
      try {
        this.port.postMessage({ id, call: name, args } satisfies Request<K>);
      } catch (error) {
        this.pending.delete(id);
        reject(new EngineError(asProblem(error)));
      }
    });
  }

  /** Hears everything that is not a response; gives the function that ends it. */
  listen(listener: (message: Broadcast) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Ends the worker; open calls are rejected. */
  terminate(): void {
    this.listeners.clear();
    this.end({ message: "the worker was ended", hint: null, fatal: true });
  }

  private receive(message: Message): void {
    if (message.kind === "response") {
      this.take(message.id)?.resolve(message.value);
    } else if (message.kind === "refusal") {
      if (message.problem.fatal) this.fail(message.problem);
      this.take(message.id)?.reject(new EngineError(message.problem));
    } else if (message.kind === "problem" && message.problem.fatal) {
      this.fail(message.problem);
    } else {
      for (const listener of this.listeners) listener(message);
    }
  }

  private take(id: number): Pending | undefined {
    const found = this.pending.get(id);
    this.pending.delete(id);
    return found;
  }

  /** After a fatal problem the worker's memory is suspect: nothing may be asked of it. */
  private fail(problem: Problem): void {
    if (this.ended) return;
    const listeners = [...this.listeners];
    this.end(problem);
    for (const listener of listeners) listener({ kind: "problem", problem });
  }

  private end(problem: Problem): void {
    this.ended = problem;
    this.port.terminate();
    for (const pending of this.pending.values()) pending.reject(new EngineError(problem));
    this.pending.clear();
  }
}

/** Anything thrown, as a problem that can be shown. */
export function asProblem(error: unknown): Problem {
  if (error instanceof EngineError) return error.problem;
  return { message: error instanceof Error ? error.message : String(error), hint: null, fatal: false };
}

function crashed(detail: string | undefined): Problem {
  return {
    message: `the worker stopped${detail ? `: ${detail}` : ""}`,
    hint: "the browser may have run out of memory; a smaller model or batch needs less",
    fatal: true,
  };
}

/** A client of a new worker; one that `revives` begins another after a failure. */
export function makeClient(revives?: boolean): Client {
  const makePort = () => new Worker(new URL("./worker/worker.ts", import.meta.url), { type: "module" });
  return new Client(makePort, revives);
}
