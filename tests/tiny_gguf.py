"""A random Llama of a few thousand parameters as a GGUF file, which llama.cpp and transformers both
read: byte-level tokens, a chat template, float32 weights.
"""

from pathlib import Path

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, CONTEXT = 64, 2, 2, 2048
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<s>' + message['role'] + '\\n' + message['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)


def byte_tokens() -> list[str]:
    """What byte-level tokenizers call the 128 bytes of ASCII: each is text of its own."""
    return [chr(byte) if 33 <= byte < 127 else chr(256 + min(byte, 33)) for byte in range(128)]


def write_tiny_gguf(file: Path, seed: int = 0) -> Path:
    """Write the model; the end of sequence is likely enough that completions end."""
    rng = np.random.default_rng(seed)
    tokens = [*byte_tokens(), "ab", "<s>", "</s>"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 2) + [3, 3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(tokens.index("</s>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def tensor(name: str, *shape: int, scale: float = 0.1) -> None:
        drawn = rng.normal(0, scale, shape).astype(np.float32)
        writer.add_tensor(name, drawn if len(shape) > 1 else np.abs(drawn) + 1)

    tensor("token_embd.weight", len(tokens), WIDTH, scale=1.0)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{layer}.{name}.weight", WIDTH, WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            tensor(f"blk.{layer}.{name}.weight", 2 * WIDTH, WIDTH)
        tensor(f"blk.{layer}.ffn_down.weight", WIDTH, 2 * WIDTH)
        for name in ("attn_norm", "ffn_norm"):
            tensor(f"blk.{layer}.{name}.weight", WIDTH)
    tensor("output_norm.weight", WIDTH)
    output = rng.normal(0, 0.2, (len(tokens), WIDTH)).astype(np.float32)
    writer.add_tensor("output.weight", output)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
