//! The names that llama.cpp gives to the text encoder in GGUF files.
//!
//! Source: `gguf-py/gguf/tensor_mapping.py` of llama.cpp. Its transformers have the names of ComfyUI.

use super::{Rule, prefix, rename};

/// The table of the text encoder.
pub fn text_encoder() -> Vec<Rule> {
    vec![
        prefix("embed_tokens.", "token_embd."),
        prefix("norm.", "output_norm."),
        prefix("layers.", "blk."),
        rename(".input_layernorm.", ".attn_norm."),
        rename(".post_attention_layernorm.", ".ffn_norm."),
        rename(".self_attn.q_proj.", ".attn_q."),
        rename(".self_attn.k_proj.", ".attn_k."),
        rename(".self_attn.v_proj.", ".attn_v."),
        rename(".self_attn.o_proj.", ".attn_output."),
        rename(".self_attn.q_norm.", ".attn_q_norm."),
        rename(".self_attn.k_norm.", ".attn_k_norm."),
        rename(".mlp.gate_proj.", ".ffn_gate."),
        rename(".mlp.up_proj.", ".ffn_up."),
        rename(".mlp.down_proj.", ".ffn_down."),
    ]
}
