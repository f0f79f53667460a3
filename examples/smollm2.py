"""SmolLM2 and dialogues as Python's own tools read them, for the scripts beside this: the GGUF file by the package
`gguf`, into transformers and tokenizers, without Kiln.

What the metadata means is in the sources of llama.cpp and transformers. A llama in GGUF rotates adjacent components,
and one of transformers halves, so that rows of queries and keys are in another order. The pre-tokenizer `smollm` makes
each digit a word, and divides the rest as GPT-2 does.
"""

import json
import os
import subprocess

PARTS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
# Token types of GGUF that are never spelled in pieces.
CONTROL, USER_DEFINED = 3, 4


def fetch(folder):
    """Downloads the GGUF file of SmolLM2-135M-Instruct, if it is not there, and returns its path."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models.mjs")
    found = subprocess.run(["node", script, "smollm2", folder], check=True, stdout=subprocess.PIPE, text=True)
    return found.stdout.splitlines()[0]


class Gguf:
    """A llama in a GGUF file."""

    def __init__(self, path):
        from gguf import GGUFReader

        self.reader = GGUFReader(path)
        self.fields = {name: field.contents() for name, field in self.reader.fields.items()}

    def of(self, key):
        return self.fields[f"llama.{key}"]

    def tensors(self):
        """Tensors by transformers' names, as numpy arrays of f32."""
        import numpy
        from gguf import dequantize

        heads = {"attn_q": self.of("attention.head_count"), "attn_k": self.of("attention.head_count_kv")}
        found = {}
        for tensor in self.reader.tensors:
            values = numpy.array(dequantize(tensor.data, tensor.tensor_type), dtype=numpy.float32)
            values = values.reshape([int(length) for length in reversed(tensor.shape)])
            words = tensor.name.split(".")
            if words[0] == "blk":
                part = words[2]
                if part in heads:
                    rows, width = values.shape
                    pairs = values.reshape(heads[part], rows // heads[part] // 2, 2, width)
                    values = pairs.swapaxes(1, 2).reshape(rows, width)
                name = f"model.layers.{words[1]}.{PARTS[part]}"
            else:
                name = WHOLE[words[0]]
            found[f"{name}.{words[-1]}"] = values
        return found

    def model(self):
        """The model in transformers, in f32."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        tensors = {name: torch.from_numpy(values) for name, values in self.tensors().items()}
        config = LlamaConfig(
            hidden_size=self.of("embedding_length"),
            intermediate_size=self.of("feed_forward_length"),
            num_hidden_layers=self.of("block_count"),
            num_attention_heads=self.of("attention.head_count"),
            num_key_value_heads=self.of("attention.head_count_kv"),
            max_position_embeddings=self.of("context_length"),
            rms_norm_eps=self.of("attention.layer_norm_rms_epsilon"),
            rope_parameters={"rope_type": "default", "rope_theta": self.of("rope.freq_base")},
            vocab_size=len(self.fields["tokenizer.ggml.tokens"]),
            tie_word_embeddings="lm_head.weight" not in tensors,
            bos_token_id=self.fields["tokenizer.ggml.bos_token_id"],
            eos_token_id=self.fields["tokenizer.ggml.eos_token_id"],
            pad_token_id=self.fields["tokenizer.ggml.padding_token_id"],
        )
        model = LlamaForCausalLM(config).float().eval()
        missing, unexpected = model.load_state_dict(tensors, strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
        model.tie_weights()
        return model

    def tokenizer(self):
        """The tokenizer in transformers, made of the metadata alone."""
        from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        fields = self.fields
        assert (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]) == ("gpt2", "smollm")
        tokens, kinds = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
        merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
        tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
        digits = pre_tokenizers.Digits(individual_digits=True)
        bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
        tokenizer.decoder = decoders.ByteLevel()
        added = [token for token, kind in zip(tokens, kinds) if kind in (CONTROL, USER_DEFINED)]
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added])
        names = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding"}
        special = {name: tokens[fields[f"tokenizer.ggml.{key}_token_id"]] for name, key in names.items()}
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, chat_template=fields["tokenizer.chat_template"],
            clean_up_tokenization_spaces=False, **special,
        )


def dialogues(most=700):
    """Conversations of the package `chitchat-dataset` as lists of messages: of each the first turns of at most so many
    characters, from a `user` to an `assistant`, in the order of their names.
    """
    import chitchat_dataset

    found = []
    for _, conversation in sorted(chitchat_dataset.Dataset().items()):
        messages, characters = [], 0
        for turn in conversation["messages"]:
            text = " ".join(" ".join(message["text"].split()) for message in turn).strip()
            characters += len(text)
            if not text or characters > most:
                break
            messages.append({"role": ("user", "assistant")[len(messages) % 2], "content": text})
        messages = messages[: len(messages) // 2 * 2]
        if messages:
            found.append(messages)
    return found


def write_lines(path, records):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def templated(tokenizer, messages):
    """Tokens of a dialogue by the chat template, and whether each is trained: answers with the token that ends them."""
    tokens, trained = [], []
    for i, message in enumerate(messages):
        text = tokenizer.apply_chat_template(messages[: i + 1], tokenize=False)
        if message["role"] != "assistant":
            continue
        prompt = tokenizer.apply_chat_template(messages[:i], tokenize=False, add_generation_prompt=True)
        before = tokenizer.apply_chat_template(messages[: i - 1], tokenize=False) if i > 1 else ""
        assert text.startswith(prompt) and prompt.startswith(before), "the template rewrites earlier messages"
        # What follows the token that ends the turn, a line break, is not trained.
        answer, end = text[len(prompt) :], tokenizer.eos_token
        middle = answer.rindex(end) + len(end)
        for part, is_trained in ((prompt[len(before) :], False), (answer[:middle], True), (answer[middle:], False)):
            ids = tokenizer.encode(part, add_special_tokens=False)
            tokens += ids
            trained += [is_trained] * len(ids)
    return tokens, trained


def batch(rows, pad):
    """Rows of tokens, and of whether each is trained, as transformers takes them, filled up on the right."""
    import torch

    width = max(len(tokens) for tokens, _ in rows)

    def filled(values, fill):
        return values + [fill] * (width - len(values))

    labels = [[token if is_trained else -100 for token, is_trained in zip(*row)] for row in rows]
    return {
        "input_ids": torch.tensor([filled(tokens, pad) for tokens, _ in rows]),
        "attention_mask": torch.tensor([filled([1] * len(tokens), 0) for tokens, _ in rows]),
        "labels": torch.tensor([filled(row, -100) for row in labels]),
    }
