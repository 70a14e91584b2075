"""Makes the golden case of kind `vq_kd`: a step of a VQ-KD tokenizer, computed by torch in float64.

    python tests/python/make_vq_kd.py tests/fixtures/vq_kd [seed]

Everything is written out here from beit-spec: encoder and decoder (transformers with absolute positions, no LayerScale, no relative
bias), linear-tanh-linear, the nearest code with a straight-through gradient, cosine loss and commitment loss, the moving codebook,
cosine k-means. Names of the weights are those of the official files, with the statistics that only those have.
"""

import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

SIZES = dict(side=12, patch=4, width=16, heads=2, mlp=24, depth=2, decoder_depth=1, code=6, vocab=10, target=20)
BATCH, KEEP, ROUNDS, EPS = 4, 0.99, 3, 1e-6


def weights(s, make):
    d, n = s["width"], (s["side"] // s["patch"]) ** 2
    w = {}

    def linear(name, o, i, scale=1.0):
        w[f"{name}.weight"] = make(o, i) * scale / math.sqrt(i)
        w[f"{name}.bias"] = make(o) * 0.1

    def transformer(half, channels, patch, depth):
        w[f"{half}.cls_token"] = make(1, 1, d) * 0.5
        w[f"{half}.pos_embed"] = make(1, n + 1, d) * 0.5
        w[f"{half}.patch_embed.proj.weight"] = make(d, channels, patch, patch) / math.sqrt(channels * patch * patch)
        w[f"{half}.patch_embed.proj.bias"] = make(d) * 0.1
        for b in range(depth):
            at = f"{half}.blocks.{b}"
            for norm in ["norm1", "norm2"]:
                w[f"{at}.{norm}.weight"], w[f"{at}.{norm}.bias"] = 1 + 0.1 * make(d), 0.1 * make(d)
            w[f"{at}.attn.q_bias"], w[f"{at}.attn.v_bias"] = 0.1 * make(d), 0.1 * make(d)
            w[f"{at}.attn.qkv.weight"] = make(3 * d, d) / math.sqrt(d)
            linear(f"{at}.attn.proj", d, d)
            linear(f"{at}.mlp.fc1", s["mlp"], d)
            linear(f"{at}.mlp.fc2", d, s["mlp"])
        w[f"{half}.fc_norm.weight"], w[f"{half}.fc_norm.bias"] = 1 + 0.1 * make(d), 0.1 * make(d)

    transformer("encoder", 3, s["patch"], s["depth"])
    transformer("decoder", s["code"], 1, s["decoder_depth"])
    linear("encode_task_layer.0", d, d)
    linear("encode_task_layer.2", s["code"], d)
    linear("decode_task_layer.0", d, d)
    linear("decode_task_layer.2", s["target"], d)
    return w


def transformer(w, half, depth, heads, x):
    x = F.conv2d(x, w[f"{half}.patch_embed.proj.weight"], w[f"{half}.patch_embed.proj.bias"],
                 stride=w[f"{half}.patch_embed.proj.weight"].shape[-1])
    x = x.flatten(2).transpose(1, 2)
    b, _, d = x.shape
    x = torch.cat([w[f"{half}.cls_token"].expand(b, -1, -1), x], 1) + w[f"{half}.pos_embed"]
    for i in range(depth):
        p = lambda name: w[f"{half}.blocks.{i}.{name}"]
        y = F.layer_norm(x, (d,), p("norm1.weight"), p("norm1.bias"), EPS)
        bias = torch.cat([p("attn.q_bias"), torch.zeros_like(p("attn.q_bias")), p("attn.v_bias")])
        q, k, v = F.linear(y, p("attn.qkv.weight"), bias).reshape(b, -1, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q * (d // heads) ** -0.5 @ k.transpose(-1, -2), -1) @ v
        x = x + F.linear(mixed.transpose(1, 2).reshape(b, -1, d), p("attn.proj.weight"), p("attn.proj.bias"))
        y = F.layer_norm(x, (d,), p("norm2.weight"), p("norm2.bias"), EPS)
        y = F.gelu(F.linear(y, p("mlp.fc1.weight"), p("mlp.fc1.bias")))
        x = x + F.linear(y, p("mlp.fc2.weight"), p("mlp.fc2.bias"))
    return F.layer_norm(x[:, 1:], (d,), w[f"{half}.fc_norm.weight"], w[f"{half}.fc_norm.bias"], EPS)


def task_layer(w, name, x):
    x = torch.tanh(F.linear(x, w[f"{name}.0.weight"], w[f"{name}.0.bias"]))
    return F.linear(x, w[f"{name}.2.weight"], w[f"{name}.2.bias"])


def mean_by_id(rows, ids, count):
    hot = F.one_hot(ids, count).to(rows.dtype)
    return hot.T @ rows, hot.sum(0)


def step(s, w, codes, sizes, image, target, start):
    w = {name: t.clone().requires_grad_() for name, t in w.items()}
    z = F.normalize(task_layer(w, "encode_task_layer", transformer(w, "encoder", s["depth"], s["heads"], 2 * image - 1)), dim=-1)
    flat = z.reshape(-1, s["code"])
    products = flat @ codes.T
    ids = products.argmax(-1)
    chosen = codes[ids].reshape(z.shape)
    seen = z + (chosen - z).detach()
    grid = s["side"] // s["patch"]
    cells = seen.transpose(1, 2).reshape(z.shape[0], s["code"], grid, grid)
    features = task_layer(w, "decode_task_layer", transformer(w, "decoder", s["decoder_depth"], s["heads"], cells))
    distance = (1 - F.cosine_similarity(features, target, dim=-1)).mean()
    commitment = F.mse_loss(z, chosen)
    loss = distance + commitment
    loss.backward()
    out = {"out.vectors": z, "out.ids": ids.reshape(z.shape[:2]), "out.features": features, "out.distance": distance[None],
           "out.commitment": commitment[None], "out.loss": loss[None]}
    with torch.no_grad():
        sums, counts = mean_by_id(flat, ids, s["vocab"])
        new = torch.where((counts == 0)[:, None], codes, F.normalize(sums / counts.clamp(min=1)[:, None], dim=-1))
        out["out.codebook"] = F.normalize(KEEP * codes + (1 - KEEP) * new, dim=-1)
        out["out.cluster_size"] = KEEP * sizes + (1 - KEEP) * counts
        patches = (2 * image - 1).unfold(2, s["patch"], s["patch"]).unfold(3, s["patch"], s["patch"])
        patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * s["patch"] ** 2)
        sums, counts = mean_by_id(patches, ids, s["vocab"])
        out["out.mean_patches"] = sums / counts.clamp(min=1)[:, None]
        means = start.clone()
        for _ in range(ROUNDS):
            sums, counts = mean_by_id(flat, (flat @ means.T).argmax(-1), s["vocab"])
            means = torch.where((counts == 0)[:, None], means, F.normalize(sums / counts.clamp(min=1)[:, None], dim=-1))
        out["out.k_means"] = means
    out.update({f"grad.{name}": t.grad for name, t in w.items()})
    gap = products.topk(2).values
    return {n: t.detach() for n, t in out.items()}, (gap[:, 0] - gap[:, 1]).min().item()


def scaled(got, want, floor=0.0):
    return ((got.double() - want).abs().max() / max(want.abs().max().item(), floor)).item()


def main(folder, seed):
    g = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64).float().double()
    s = SIZES
    w = {n: t.float().double() for n, t in weights(s, make).items()}
    image = torch.rand(BATCH, 3, s["side"], s["side"], generator=g).double()
    cells = (s["side"] // s["patch"]) ** 2
    target, sizes = make(BATCH, cells, s["target"]), make(s["vocab"]).abs()
    unit = lambda: F.normalize(make(s["vocab"], s["code"]), dim=-1).float().double()
    codes, start = unit(), unit()
    inputs = (codes, sizes, image, target, start)
    want, gap = step(s, w, *inputs)
    single, _ = step(s, {n: t.float() for n, t in w.items()}, *(t.float() for t in inputs))
    assert gap > 1e-3 and (want["out.ids"] == single["out.ids"]).all(), "near ties: choose another seed"

    groups = {"forward": ["vectors", "features"], "loss": ["distance", "commitment", "loss"],
              "codebook": ["codebook", "cluster_size", "k_means", "mean_patches"]}
    errors = {group: max(scaled(single[f"out.{n}"], want[f"out.{n}"]) for n in names) for group, names in groups.items()}
    grads = [n for n in want if n.startswith("grad.")]
    largest = max(want[n].abs().max().item() for n in grads)
    errors["grad"] = max(scaled(single[n], want[n], 1e-3 * largest) for n in grads)
    rounded = lambda x: float(f"{max(x, 3e-7):.0e}")
    tolerance = {n: {"cpu_f32": rounded(10 * e), "gpu_f32": max(5e-5, rounded(50 * e))} for n, e in errors.items()}

    folder.mkdir(parents=True, exist_ok=True)
    file = {n: t.float().contiguous() for n, t in w.items()}
    file["quantize.embedding.weight"] = codes.float()
    file["quantize.cluster_size"] = sizes.float()
    # what official files hold beside
    file["quantize.embedding.cluster_size"] = sizes.float() * 2
    file["quantize.embedding.embed_avg"] = codes.float() * 2
    file["quantize.embedding.initted"] = torch.ones(1)
    save_file(file, folder / "weights.safetensors", metadata={"format": "pt"})
    io = {n: (t.int() if n == "out.ids" else t.float()).contiguous() for n, t in want.items()}
    io.update({"in.image": image.float(), "in.target": target.float(), "in.k_means_start": start.float()})
    save_file(io, folder / "io.safetensors", metadata={"format": "pt"})
    case = {
        "case": folder.name,
        "kind": "vq_kd",
        "what": "one step of a VQ-KD tokenizer: losses, gradients, codebook, mean patches; k-means of a codebook",
        "produced_by": {"library": "torch", "version": torch.__version__, "script": "tests/python/make_vq_kd.py",
                        "reference_precision": "float64, stored as float32"},
        "config": {**s, "keep": KEEP, "k_means_rounds": ROUNDS, "layer_norm_eps": EPS},
        "seed": seed,
        "smallest_gap_between_first_and_second_code": gap,
        "tolerance": tolerance,
    }
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    print(f"{folder}: gap {gap:.4f}, errors of float32 {errors}")


main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20220812)
