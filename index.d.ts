/**
 * Embeddings of texts from a local GGUF model.
 *
 * The model runs in a separate process, the worker, which all Node processes of this user share. The
 * first call starts it if it does not run; it ends by itself when its last client is gone. An idle
 * client does not keep Node alive, and nothing is ever written to stdout.
 */

/** How to embed. Every option may be omitted or `undefined`; unknown ones are refused. */
export interface EmbedOptions {
  /**
   * Path of a GGUF file; a relative one is taken from the current directory. Or a name, as
   * `embed-worker pull` takes it: a known one (`embed-worker models` lists them),
   * `owner/name:file.gguf` of Hugging Face's hub, or an address. A model that has a name must be on
   * this machine, unless `process.env.EMBED_AUTO_PULL` is `1`: then it is fetched when it is first
   * used, which a call awaits for `timeoutMs`.
   * Default: `process.env.EMBED_MODEL`, else the model that ships with the package.
   */
  readonly model?: string
  /**
   * What the text is embedded for. Many models are trained with a few words of their own before a
   * text, for example `search_query: `; with this option the worker puts them there, and their tokens
   * count as the text's. A model that is known to have none takes every task unchanged; one that is
   * trained for other tasks only, or that is not known, refuses with `EMBED_BAD_ARGUMENT`.
   * `embed-worker info` shows what is known of a model. Default: the text as it is.
   */
  readonly task?: 'query' | 'document' | 'clustering' | 'classification'
  /**
   * A text with more tokens than the model's context, or than `EMBED_MEMORY_BUDGET` allows: `false`
   * refuses it with `EMBED_TEXT_TOO_LONG`, `true` cuts it there. Default: `false`.
   */
  readonly truncate?: boolean
  /**
   * Keep only the first so many dimensions (Matryoshka) before normalising. Only models that were
   * trained for it lose little by it: `embed-worker info` shows for which numbers. Default: all.
   */
  readonly dimensions?: number
  /** Scale the vector to unit length, so that a dot product is a cosine. Default: `true`. */
  readonly normalize?: boolean
  /**
   * `'interactive'` goes before `'bulk'` at every batch of the worker. A full worker answers
   * `EMBED_OVERLOADED` to an interactive text at once; a bulk text waits its turn.
   * Default: interactive for a string, bulk for an array.
   */
  readonly priority?: 'interactive' | 'bulk'
  /**
   * How many milliseconds one text may take, the start of a worker included. In an array it counts
   * for each text from the moment it is sent; to bound a whole array, use
   * `signal: AbortSignal.timeout(ms)`. Default: 30000.
   */
  readonly timeoutMs?: number
  /**
   * What to answer when no worker can be had (it cannot be started, or was lost several times in a
   * row): `'none'` rejects with the reason; `'hash'` answers with a deterministic hash embedding of
   * the model's own length, marked by `degraded: true`, and warns once a spell with the process
   * warning `EMBED_DEGRADED`. Texts that share words are near each other in it, but it must never be
   * stored beside the model's own vectors. A missing or damaged model is an error with either.
   * Default: `process.env.EMBED_FALLBACK`, else `'none'`.
   */
  readonly fallback?: 'none' | 'hash'
  /** Aborting it rejects the promise with an `AbortError`; the worker skips what it has not begun. */
  readonly signal?: AbortSignal
  /**
   * Called with the number of texts that have their result, now and then, and once with
   * `done === total` just before the promise settles. What it throws is an uncaught exception.
   */
  readonly onProgress?: (done: number, total: number) => void
}

/**
 * What went wrong, to branch on. The `message` beside it is for people.
 *
 * | code | meaning |
 * |---|---|
 * | `EMBED_BAD_ARGUMENT` | an argument or option is of the wrong type or out of range (a `TypeError`) |
 * | `EMBED_TEXT_TOO_LONG` | more tokens than the model's context or the memory budget allows, or more than 1 MiB |
 * | `EMBED_MODEL_NOT_FOUND` | there is no file at the model's path, or the model is not here and was not fetched |
 * | `EMBED_MODEL_INVALID` | the model file is damaged, or its contents do not fit together |
 * | `EMBED_MODEL_UNSUPPORTED` | the model file is whole, but of a kind that this version cannot run |
 * | `EMBED_WORKER_UNAVAILABLE` | no worker could be started or reached, or it was lost twice |
 * | `EMBED_TIMEOUT` | the time limit passed |
 * | `EMBED_OVERLOADED` | a queue of the worker is full |
 * | `EMBED_PROTOCOL` | client and worker do not understand each other: two versions are mixed |
 * | `EMBED_SHUTTING_DOWN` | every worker that was tried was about to exit |
 * | `EMBED_CANCELLED` | the worker gave the text up because its client did |
 * | `EMBED_INTERNAL` | a defect of this package |
 */
export type EmbedErrorCode =
  | 'EMBED_BAD_ARGUMENT'
  | 'EMBED_TEXT_TOO_LONG'
  | 'EMBED_MODEL_NOT_FOUND'
  | 'EMBED_MODEL_INVALID'
  | 'EMBED_MODEL_UNSUPPORTED'
  | 'EMBED_WORKER_UNAVAILABLE'
  | 'EMBED_TIMEOUT'
  | 'EMBED_OVERLOADED'
  | 'EMBED_PROTOCOL'
  | 'EMBED_SHUTTING_DOWN'
  | 'EMBED_CANCELLED'
  | 'EMBED_INTERNAL'

/** Why a text has no vector. */
export interface EmbedError extends Error {
  readonly code: EmbedErrorCode
}

/** What computed a vector. */
export interface EmbedModel {
  /** The name that the file gives itself, or the file's own. */
  readonly name: string
  /** For example `'bert'`. */
  readonly architecture: string
  /** Length of a whole vector. */
  readonly dimensions: number
  /** Most tokens in one text, special tokens included. */
  readonly contextTokens: number
  /** How the tokens' states become one vector: `'mean'`, `'cls'` or `'last'`. */
  readonly pooling: string
  /** The type of most weights, for example `'Q8_0'`. */
  readonly quantization: string
  /**
   * SHA-256 of the file's header, in hexadecimal: files with the same one have the same name,
   * architecture, tokenizer and tensor types. It does not look at the weights themselves.
   */
  readonly fingerprint: string
}

/** The vector of a text: as many numbers as the model has dimensions. */
export interface EmbedVector extends Float32Array<ArrayBuffer> {
  /**
   * Which model the vector is of, so that vectors of two models are never compared; not there if it
   * is of none, see `degraded`. One frozen object for all vectors of a call that one worker answered;
   * it is not enumerable, and a copy of the vector does not have it.
   */
  readonly model?: EmbedModel
  /** Set if this is not the model's vector but a fallback: see {@link EmbedOptions.fallback}. */
  readonly degraded?: true
}

/** Some texts of an array have no vector; those of the others are here. */
export interface EmbedBatchError extends Error {
  readonly code: 'EMBED_BATCH'
  /** The texts without a vector, in the order of their indices. */
  readonly errors: readonly { readonly index: number; readonly error: EmbedError }[]
  /** One entry a text: its vector, or its error. */
  readonly results: readonly (EmbedVector | EmbedError)[]
}

/**
 * The vector of a text.
 *
 * The same text has the same vector, bit for bit, alone or beside any others. A lone surrogate in it
 * is read as U+FFFD, as by `TextEncoder`. An empty text has a vector, too.
 *
 * @returns a new `Float32Array` with a buffer of its own.
 * @throws {@link EmbedError}; an `AbortError` if `signal` was aborted. Always as a rejection.
 *
 * @example
 * const vector = await embed('How do I reset my password?')
 */
export function embed(text: string, options?: EmbedOptions): Promise<EmbedVector>

/**
 * The vectors of many texts, in their order. An empty array has none.
 *
 * If some texts fail, the promise is rejected with an {@link EmbedBatchError} that holds the vectors
 * of the others; if all fail for the same reason, other than their length, with that
 * {@link EmbedError} itself.
 *
 * @throws {@link EmbedBatchError} or {@link EmbedError}; an `AbortError` if `signal` was aborted.
 * Always as a rejection.
 *
 * @example
 * const vectors = await embed(paragraphs, { onProgress: (done, total) => bar.update(done / total) })
 */
export function embed(texts: readonly string[], options?: EmbedOptions): Promise<EmbedVector[]>
