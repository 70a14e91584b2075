//! The correspondence of names between the official code and transformers, as data (beit-spec §10.2, §10.3).

/// What transformers puts before every name of the backbone in a model with a head.
pub(super) const PREFIX: &str = "beit.";

/// Name and name: ours, theirs.
pub(super) type Row = (&'static str, &'static str);

/// Names outside the blocks: official, transformers without the prefix. The first row of an official name is the one
/// that is written; later ones are read only.
pub(super) const OUTSIDE: [Row; 10] = [
    ("cls_token", "embeddings.cls_token"),
    ("mask_token", "embeddings.mask_token"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight"),
    ("patch_embed.proj.bias", "embeddings.patch_embeddings.projection.bias"),
    (
        "rel_pos_bias.relative_position_bias_table",
        "encoder.relative_position_bias.relative_position_bias_table",
    ),
    ("fc_norm.weight", "pooler.layernorm.weight"),
    ("fc_norm.bias", "pooler.layernorm.bias"),
    // renamed modules of newer versions
    ("rel_pos_bias.relative_position_bias_table", "relative_position_bias.relative_position_bias_table"),
    ("rel_pos_bias.relative_position_bias_table", "shared_position_bias.relative_position_bias_table"),
];

/// Names of heads, which never carry the prefix: official, transformers.
pub(super) const HEADS: [Row; 8] = [
    ("lm_head.weight", "lm_head.weight"),
    ("lm_head.bias", "lm_head.bias"),
    ("head.weight", "classifier.weight"),
    ("head.bias", "classifier.bias"),
    ("decode_head.conv_seg.weight", "decode_head.classifier.weight"),
    ("decode_head.conv_seg.bias", "decode_head.classifier.bias"),
    ("auxiliary_head.conv_seg.weight", "auxiliary_head.classifier.weight"),
    ("auxiliary_head.conv_seg.bias", "auxiliary_head.classifier.bias"),
];

/// Modules of a segmenter whose names agree (the last layers of the heads are in [`HEADS`]).
pub(super) const SEGMENTER: [&str; 4] = ["fpn1.", "fpn2.", "decode_head.", "auxiliary_head."];

/// Names inside block i after `blocks.i.`, and after `encoder.layer.i.`. The first row of an official name is the
/// one that is written; later ones are read only (renamed modules of newer versions).
pub(super) const INSIDE: [Row; 31] = [
    ("gamma_1", "lambda_1"),
    ("gamma_2", "lambda_2"),
    ("norm1.weight", "layernorm_before.weight"),
    ("norm1.bias", "layernorm_before.bias"),
    ("norm2.weight", "layernorm_after.weight"),
    ("norm2.bias", "layernorm_after.bias"),
    ("attn.q_bias", "attention.attention.query.bias"),
    ("attn.v_bias", "attention.attention.value.bias"),
    ("attn.q.weight", "attention.attention.query.weight"),
    ("attn.k.weight", "attention.attention.key.weight"),
    ("attn.k_bias", "attention.attention.key.bias"),
    ("attn.v.weight", "attention.attention.value.weight"),
    (
        "attn.relative_position_bias_table",
        "attention.attention.relative_position_bias.relative_position_bias_table",
    ),
    ("attn.proj.weight", "attention.output.dense.weight"),
    ("attn.proj.bias", "attention.output.dense.bias"),
    ("mlp.fc1.weight", "intermediate.dense.weight"),
    ("mlp.fc1.bias", "intermediate.dense.bias"),
    ("mlp.fc2.weight", "output.dense.weight"),
    ("mlp.fc2.bias", "output.dense.bias"),
    ("attn.q_bias", "attention.q_proj.bias"),
    ("attn.v_bias", "attention.v_proj.bias"),
    ("attn.q.weight", "attention.q_proj.weight"),
    ("attn.k.weight", "attention.k_proj.weight"),
    ("attn.v.weight", "attention.v_proj.weight"),
    ("attn.proj.weight", "attention.o_proj.weight"),
    ("attn.proj.bias", "attention.o_proj.bias"),
    ("attn.relative_position_bias_table", "relative_position_bias.relative_position_bias_table"),
    ("mlp.fc1.weight", "mlp.fc1.weight"),
    ("mlp.fc1.bias", "mlp.fc1.bias"),
    ("mlp.fc2.weight", "mlp.fc2.weight"),
    ("mlp.fc2.bias", "mlp.fc2.bias"),
];

/// The pyramid's modules: published, and in newer versions.
pub(super) const PYRAMID: [Row; 4] = [
    ("fpn1.0.", "fpn.fpn1.conv_transpose1."),
    ("fpn1.1.", "fpn.fpn1.normalization."),
    ("fpn1.3.", "fpn.fpn1.conv_transpose2."),
    ("fpn2.0.", "fpn.fpn2."),
];

/// Their name for ours, from the first row that has it.
pub(super) fn look_up(table: &[Row], ours: &str) -> Option<&'static str> {
    table.iter().find(|(o, _)| *o == ours).map(|(_, theirs)| *theirs)
}

/// Our name for theirs.
pub(super) fn look_back(table: &[Row], theirs: &str) -> Option<&'static str> {
    table.iter().find(|(_, t)| *t == theirs).map(|(ours, _)| *ours)
}

/// Splits `7.norm1.weight` into its index and the rest.
pub(super) fn split_index(path: &str) -> Option<(&str, &str)> {
    let (index, rest) = path.split_once('.')?;
    (!index.is_empty() && index.bytes().all(|b| b.is_ascii_digit())).then_some((index, rest))
}
