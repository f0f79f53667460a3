// The words of the page, each in one or two plain sentences.

/** A word and what it means. */
export interface Term {
  name: string;
  meaning: string;
}

/** All terms by a short name that code refers to. */
export const TERMS = {
  token: { name: "token", meaning: "The unit that a model reads and generates: a character, a byte, or a frequent piece of a word." },
  tokenizer: { name: "tokenizer", meaning: "The rule that cuts text into tokens and puts tokens back together." },
  vocabulary: { name: "vocabulary", meaning: "All tokens that a tokenizer knows. Its size is the number of choices the model has at each position." },
  bpe: { name: "byte-pair encoding", meaning: "A tokenizer that begins with bytes and joins the most frequent neighbours again and again until its vocabulary is full." },
  parameter: { name: "parameter", meaning: "One of the numbers that training adjusts. Their count is the size of the model." },
  transformer: { name: "transformer", meaning: "A stack of equal layers, each of which lets positions exchange information (attention) and then works on every position by itself (an MLP)." },
  layer: { name: "layer", meaning: "One block of attention and MLP. More layers can compute in more steps, and cost time in proportion." },
  head: { name: "head", meaning: "One of several attentions that run side by side in a layer, each free to attend to something else." },
  attention: { name: "attention", meaning: "How a position gathers information from earlier ones: it weighs each of them, and the weights add up to 1." },
  embedding: { name: "embedding", meaning: "The list of numbers that stands for a token inside the model; similar tokens come to have similar lists." },
  width: { name: "width", meaning: "How many numbers stand for one position between the layers. Parameters grow with its square." },
  context: { name: "context", meaning: "How many tokens the model sees at once. It can use nothing that lies further back." },
  position: { name: "position", meaning: "How the model is told where a token stands: learned or fixed vectors added to the embedding, or rotation of the queries and keys." },
  normalization: { name: "normalization", meaning: "Rescales the numbers at a position to a common size, which keeps deep models trainable." },
  activation: { name: "activation", meaning: "The bend between two matrix products of the MLP; without it a stack of layers could do no more than one." },
  dropout: { name: "dropout", meaning: "Sets a random share of numbers to zero while training, so that the model relies on no single one. Useful where the text is small." },
  loss: { name: "loss", meaning: "How surprised the model is by the true next token, on average, in nats: 0 is certainty of the right token. Training makes it fall." },
  uniform: { name: "uniform guess", meaning: "The loss of giving every token of the vocabulary the same probability: the logarithm of its size. A model above that line has learned nothing yet." },
  validation: { name: "validation loss", meaning: "The loss on text that is held out from training. When it rises while the training loss falls, the model memorizes instead of learning." },
  perplexity: { name: "perplexity", meaning: "The loss as a number of choices: a perplexity of 5 is like guessing among 5 equally likely tokens." },
  accuracy: { name: "task accuracy", meaning: "The share of held-out examples whose whole output is right." },
  macro_f1: { name: "macro F1", meaning: "How well a classifier tells its classes apart on held-out examples: the mean of precision and recall for each class, averaged over the classes. 1 is perfect." },
  expert: { name: "expert", meaning: "One of several MLPs in a layer, of which a router picks a few for each token. Training pushes towards equal use of all; an expert that is hardly used is wasted." },
  gradient: { name: "gradient", meaning: "For each parameter, in which direction and how strongly it would change the loss. Training steps against it." },
  gradient_norm: { name: "gradient norm", meaning: "The size of all gradients together. Peaks are hard or odd batches; steady growth means that training is about to break." },
  clipping: { name: "gradient clipping", meaning: "Shrinks a gradient whose norm is too large, so that one odd batch cannot undo the rest." },
  learning_rate: { name: "learning rate", meaning: "How far each step moves the parameters. Too small is slow, too large never settles or blows up." },
  warmup: { name: "warmup", meaning: "The first steps, during which the learning rate rises from zero, because early gradients are unreliable." },
  schedule: { name: "schedule", meaning: "How the learning rate changes during a run: usually up during warmup, then slowly down." },
  optimizer: { name: "optimizer", meaning: "The rule that turns gradients into changes of the parameters. AdamW, the usual one, gives each parameter a step size of its own." },
  weight_decay: { name: "weight decay", meaning: "Pulls weights a little towards zero at each step, which favours simpler solutions." },
  batch: { name: "batch", meaning: "The rows of text that one step learns from. Larger batches give steadier gradients and take longer." },
  accumulation: { name: "gradient accumulation", meaning: "Adds up the gradients of several batches before one step: the effect of a large batch in the memory of a small one." },
  step: { name: "step", meaning: "One round of training: read a batch, compute the loss and its gradients, change the parameters." },
  epoch: { name: "epoch", meaning: "One pass over the whole training text." },
  seed: { name: "seed", meaning: "The number that all chance comes from. The same seed and settings give the same run." },
  temperature: { name: "temperature", meaning: "How boldly text is sampled: 0 always takes the likeliest token, 1 follows the model's probabilities, more is wilder." },
  top_k: { name: "top k", meaning: "Sample only among the k likeliest tokens; 0 leaves all of them in." },
  tokens_per_second: { name: "tokens per second", meaning: "How much text training works through. It depends on the machine, the model and the batch." },
  checkpoint: { name: "checkpoint", meaning: "Everything needed to go on later: weights, optimizer state, tokenizer and settings, in the format of the desktop program." },
  webgpu: { name: "WebGPU", meaning: "The browser's way to compute on the graphics card. Without it, training runs on the processor, more slowly." },
  dispatch: { name: "dispatch", meaning: "One piece of work that the graphics card is given, such as a matrix product. Each costs time of its own, so that a step of fewer dispatches is faster. Evaluations and samples add some." },
  submit: { name: "submit", meaning: "A bundle of dispatches sent to the graphics card. Each is a trip through the browser, so that fewer and larger ones are faster." },
} satisfies Record<string, Term>;

/** Short name of a term. */
export type TermName = keyof typeof TERMS;

/** The term that explains a setting, where there is one. */
export const TERM_OF_KEY: Record<string, TermName> = {
  "model.n_layer": "layer",
  "model.n_head": "head",
  "model.n_embd": "width",
  "model.block_size": "context",
  "model.position": "position",
  "model.norm": "normalization",
  "model.norm_position": "normalization",
  "model.activation": "activation",
  "model.dropout": "dropout",
  "model.tie_embeddings": "embedding",
  "model.vocab_size": "vocabulary",
  "tokenizer.kind": "tokenizer",
  "tokenizer.vocab_size": "bpe",
  "data.val_fraction": "validation",
  "train.batch_size": "batch",
  "train.gradient_accumulation_steps": "accumulation",
  "train.max_steps": "step",
  "train.seed": "seed",
  "train.optimizer": "optimizer",
  "train.learning_rate": "learning_rate",
  "train.schedule": "schedule",
  "train.warmup_steps": "warmup",
  "train.weight_decay": "weight_decay",
  "train.grad_clip": "clipping",
  "sample.temperature": "temperature",
  "sample.top_k": "top_k",
};
