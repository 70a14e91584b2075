//! Attention maps of a forward pass, computed on the host from the stacked q, k, v (beit-spec §2.4), and their rollout.

use crate::models::VitConfig;
use crate::ops::AttentionSpec;

/// Attention of every block and head for one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionMaps {
    /// Blocks L.
    pub layers: usize,
    /// Heads H.
    pub heads: usize,
    /// Sequence length N = 1 + patches; token 0 is the class token.
    pub tokens: usize,
    /// Probabilities `[L,H,N,N]`: row = query, column = key; rows sum to 1.
    values: Vec<f32>,
}

impl AttentionMaps {
    /// From q, k, v side by side `[N,3D]` and the bias table `[R,H]` (if any) of each block.
    pub(super) fn of(vit: &VitConfig, qkv: &[Vec<f32>], tables: &[Vec<f32>]) -> Self {
        let (n, heads) = (vit.tokens(), vit.heads);
        let spec = vit.attention_spec();
        let mut values = Vec::with_capacity(qkv.len() * heads * n * n);
        for (layer, qkv) in qkv.iter().enumerate() {
            let table = tables.get(layer).or(tables.last()).map(Vec::as_slice);
            for head in 0..heads {
                values.extend(head_map(vit, &spec, qkv, table, head));
            }
        }
        AttentionMaps { layers: qkv.len(), heads, tokens: n, values }
    }

    /// The map `[N,N]` of one head of one block; empty if there is none.
    pub fn map(&self, layer: usize, head: usize) -> &[f32] {
        let (size, at) = (self.tokens * self.tokens, layer * self.heads + head);
        if head >= self.heads { &[] } else { self.values.get(at * size..(at + 1) * size).unwrap_or(&[]) }
    }

    /// How much each patch (`[n]`, class token left out) is looked at from a patch, by one head of one block.
    pub fn from_patch(&self, layer: usize, head: usize, patch: usize) -> &[f32] {
        let row = (patch + 1) * self.tokens;
        self.map(layer, head).get(row + 1..row + self.tokens).unwrap_or(&[])
    }

    /// Mean over the heads of a block, `[N,N]`.
    pub fn mean_of_heads(&self, layer: usize) -> Vec<f32> {
        let mut mean = vec![0.0; self.tokens * self.tokens];
        for head in 0..self.heads {
            mean.iter_mut().zip(self.map(layer, head)).for_each(|(m, v)| *m += v / self.heads as f32);
        }
        mean
    }

    /// Attention rollout `[N,N]` (Abnar and Zuidema 2020): the product over the blocks of ½(mean attention + identity),
    /// which follows attention through residual connections. Rows sum to 1.
    pub fn rollout(&self) -> Vec<f32> {
        let n = self.tokens;
        let mut all: Vec<f32> = (0..n * n).map(|i| if i / n == i % n { 1.0 } else { 0.0 }).collect();
        for layer in 0..self.layers {
            let mut step = self.mean_of_heads(layer);
            for (i, v) in step.iter_mut().enumerate() {
                *v = 0.5 * *v + if i / n == i % n { 0.5 } else { 0.0 };
            }
            all = product(&step, &all, n);
        }
        all
    }

    /// Rollout from a patch to all patches, `[n]`.
    pub fn rollout_from(&self, patch: usize) -> Vec<f32> {
        let row = (patch + 1) * self.tokens;
        self.rollout().get(row + 1..row + self.tokens).map(<[f32]>::to_vec).unwrap_or_default()
    }
}

/// Values stretched so that the largest is 1; for drawing.
pub fn stretched(values: &[f32]) -> Vec<f32> {
    let max = values.iter().fold(0.0f32, |m, &v| m.max(v));
    values.iter().map(|&v| if max > 0.0 { v / max } else { 0.0 }).collect()
}

fn product(a: &[f32], b: &[f32], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * n];
    for (row, out) in a.chunks(n).zip(out.chunks_mut(n)) {
        for (&x, b) in row.iter().zip(b.chunks(n)) {
            out.iter_mut().zip(b).for_each(|(o, &y)| *o += x * y);
        }
    }
    out
}

fn head_map(
    vit: &VitConfig,
    spec: &AttentionSpec,
    qkv: &[f32],
    table: Option<&[f32]>,
    head: usize,
) -> Vec<f32> {
    let (n, d, hd) = (vit.tokens(), vit.width, vit.width / vit.heads);
    let part = |token: usize, which: usize| {
        let at = token * 3 * d + which * d + head * hd;
        qkv.get(at..at + hd).unwrap_or(&[])
    };
    let scale = 1.0 / (hd as f32).sqrt();
    let mut map = Vec::with_capacity(n * n);
    for i in 0..n {
        let q = part(i, 0);
        let score = |j: usize| {
            let bias = table.and_then(|t| t.get(spec.table_row(i, j) * vit.heads + head)).copied();
            scale * q.iter().zip(part(j, 1)).map(|(a, b)| a * b).sum::<f32>() + bias.unwrap_or(0.0)
        };
        let scores: Vec<f32> = (0..n).map(score).collect();
        let max = scores.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
        let exps: Vec<f32> = scores.iter().map(|s| (s - max).exp()).collect();
        let sum: f32 = exps.iter().sum();
        map.extend(exps.iter().map(|e| e / sum));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollout_of_uniform_attention() {
        let n = 3;
        let maps = AttentionMaps { layers: 2, heads: 1, tokens: n, values: vec![1.0 / 3.0; 2 * n * n] };
        let rollout = maps.rollout();
        for row in rollout.chunks(n) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
        // half of the identity twice is a quarter; the rest is spread evenly
        assert!((rollout[0] - 0.5).abs() < 1e-6 && (rollout[1] - 0.25).abs() < 1e-6);
        assert_eq!(maps.rollout_from(0).len(), n - 1);
        assert_eq!((maps.map(0, 1), maps.map(2, 0)), (&[][..], &[][..]));
        assert_eq!(stretched(&[0.0, 0.5, 0.25]), [0.0, 1.0, 0.5]);
    }
}
