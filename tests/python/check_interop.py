#!/usr/bin/env python3
"""Do the Python libraries load what beit writes, and do both give the same numbers?

    pip install torch transformers timm dall_e
    cargo build --release
    python tests/python/check_interop.py target/release/beit

For every kind of model: a small random one is made by the library, imported and exported by beit, loaded by the library
again (no missing, no unexpected key), and its logits are compared: exactly between the two loads, and to a relative 2e-5
between the library and beit's own forward pass. The versions tried are in docs/interop.md.
"""

import io
import logging
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

BOUND = 2e-5
failures = []


def report(name, fine, text):
    print(f"{'ok  ' if fine else 'FAIL'} {name}: {text}")
    if not fine:
        failures.append(name)


def beit(*args):
    done = subprocess.run([BEIT, *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"beit {' '.join(map(str, args))}: {done.stdout}{done.stderr}")
    return done.stdout


def randomise(model, seed=0):
    """Values that leave no bias table, norm or running statistic at its trivial start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator) * 0.1
            tensor.copy_(noise.abs() + 0.5 if "running_var" in name else noise + (tensor == 1).all() * 1.0)
    return model.eval()


def ours(folder, work, inputs, *flags):
    given, out = work / "given.safetensors", work / "numbers.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in inputs.items()}, given)
    beit("forward", folder, "--input", given, "--out", out, "--adapter", "cpu", *flags)
    return load_file(out)


def difference(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def transformers_case(name, cls, config, inputs, work, version, run=lambda model, **inputs: model(**inputs).logits):
    """library -> beit import -> beit export -> library."""
    import transformers

    model = randomise(cls(config))
    source = work / "source"
    model.save_pretrained(source)
    beit("import", source, "--out", work / "own")
    beit("export", work / "own", "--format", "transformers", "--out", work / "back")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    transformers.utils.logging.get_logger("transformers").addHandler(handler)
    again, info = cls.from_pretrained(work / "back", output_loading_info=True)
    transformers.utils.logging.get_logger("transformers").removeHandler(handler)
    keys = {key: sorted(value) for key, value in info.items() if value}
    report(f"{name} {version} keys", not keys and not stream.getvalue(), str(keys or stream.getvalue() or "all there"))
    with torch.no_grad():
        want, got = run(model, **inputs), run(again.eval(), **inputs)
    report(f"{name} {version} logits after the round trip", torch.equal(want, got), f"{difference(got, want):.1e}")
    same = (source / "model.safetensors").read_bytes() == (work / "back" / "model.safetensors").read_bytes()
    a, b = load_file(source / "model.safetensors"), load_file(work / "back" / "model.safetensors")
    equal = a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    report(f"{name} {version} file", equal, "byte-identical" if same else "the same tensors in another order")
    d = difference(ours(work / "back", work, inputs)["logits"], want)
    report(f"{name} {version} beit's own forward pass", d < BOUND, f"{d:.1e}")
    # what the library keeps in memory under newer names is read too
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, work / "state.safetensors")
    beit("import", work / "state.safetensors", "--heads", config.num_attention_heads)
    return model


def check_transformers(root):
    import transformers
    from transformers import (
        BeitConfig, BeitForImageClassification, BeitForMaskedImageModeling, BeitForSemanticSegmentation,
    )

    version = f"transformers {transformers.__version__}"
    torch.manual_seed(0)
    small = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=32,
                 patch_size=8, vocab_size=50)
    pixels = torch.randn(2, 3, 32, 32)
    mask = torch.rand(2, 16) < 0.4
    for name, flags in [
        ("masked, shared table", dict(use_shared_relative_position_bias=True)),
        ("masked, absolute positions", dict(use_absolute_position_embeddings=True)),
    ]:
        config = BeitConfig(use_mask_token=True, use_mean_pooling=True, **small, **flags)
        work = pathlib.Path(tempfile.mkdtemp(dir=root))
        inputs = dict(pixel_values=pixels, bool_masked_pos=mask)
        transformers_case(name, BeitForMaskedImageModeling, config, inputs, work, version)
    for name, flags in [
        ("classifier, a table in each block", dict(use_relative_position_bias=True)),
        ("classifier, class token, no layer scale",
         dict(use_absolute_position_embeddings=True, use_mean_pooling=False, layer_scale_init_value=0.0)),
        ("classifier, both kinds of tables",
         dict(use_relative_position_bias=True, use_shared_relative_position_bias=True)),
    ]:
        config = BeitConfig(num_labels=7, **small, **flags)
        work = pathlib.Path(tempfile.mkdtemp(dir=root))
        transformers_case(name, BeitForImageClassification, config, dict(pixel_values=pixels), work, version)
    # the library taps block i-2 for out_indices i; beit taps the blocks that the official configs name
    config = BeitConfig(**{**small, "num_hidden_layers": 4}, use_relative_position_bias=True, num_labels=5,
                        out_indices=[0, 1, 2, 3], pool_scales=[1, 2, 3], auxiliary_channels=16)
    work = pathlib.Path(tempfile.mkdtemp(dir=root))
    segment = dict(pixel_values=pixels)

    def tapped(model, pixel_values):
        """The library's segmenter on the blocks that the official configs name."""
        states = model.beit(pixel_values, output_hidden_states=True).hidden_states
        b, (h, w) = pixel_values.shape[0], [s // model.config.patch_size for s in pixel_values.shape[2:]]
        maps = [states[i + 1][:, 1:].transpose(1, 2).reshape(b, -1, h, w) for i in model.config.out_indices]
        if hasattr(model, "fpn"):
            maps = model.fpn(tuple(maps))
        else:
            maps = [op(x) for op, x in zip([model.fpn1, model.fpn2, model.fpn3, model.fpn4], maps)]
        return model.decode_head(maps)

    transformers_case("segmenter", BeitForSemanticSegmentation, config, segment, work, version, tapped)


def check_timm(root):
    import timm
    from timm.models.beit import Beit

    version = f"timm {timm.__version__}"
    pixels = torch.randn(2, 3, 32, 32)
    for name, flags in [
        ("classifier, mean", dict(use_rel_pos_bias=True, global_pool="avg")),
        ("classifier, shared table, class token", dict(use_shared_rel_pos_bias=True, global_pool="token")),
    ]:
        work = pathlib.Path(tempfile.mkdtemp(dir=root))
        model = randomise(Beit(img_size=32, patch_size=8, num_classes=7, embed_dim=48, depth=3, num_heads=4,
                               mlp_ratio=2.0, init_values=0.1, use_abs_pos_emb=False, **flags))
        save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, work / "timm.safetensors")
        torch.save(model.state_dict(), work / "timm.pth")
        for file in ["timm.safetensors", "timm.pth"]:
            out = work / f"{file}.out"
            beit("export", work / file, "--format", "timm", "--out", out)
            again = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
            missing = again.load_state_dict(load_file(out / "model.safetensors"), strict=True)
            report(f"{name} {version} keys of {file}", not any(missing), str(missing))
            with torch.no_grad():
                want, got = model(pixels), again(pixels)
            d = difference(got, want)
            report(f"{name} {version} logits", d < 1e-6, f"{d:.1e}")
        same = (work / "timm.safetensors").read_bytes() == (work / "timm.safetensors.out/model.safetensors").read_bytes()
        report(f"{name} {version} file", same, "byte-identical" if same else "other bytes")
        d = difference(ours(out, work, dict(pixel_values=pixels))["logits"], want)
        report(f"{name} {version} beit's own forward pass", d < BOUND, f"{d:.1e}")
        beit("export", work / "timm.pth", "--format", "official", "--out", work / "official")
        state = torch.load(work / "official/model.pth", weights_only=True)["model"]
        fine = all(torch.equal(state[k], v) for k, v in model.state_dict().items())
        report(f"{name} torch {torch.__version__} reads model.pth", fine, f"{len(state)} tensors")
    tables(timm)


def tables(timm):
    """The linear resampling of tables against timm's own, and the uniform one against torch's."""
    from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
    from timm.models.beit import Beit

    work = pathlib.Path(tempfile.mkdtemp(dir=ROOT))
    model = randomise(Beit(img_size=32, patch_size=8, num_classes=7, embed_dim=48, depth=1, num_heads=4,
                           use_abs_pos_emb=False, use_rel_pos_bias=True))
    table = model.blocks[0].attn.relative_position_bias_table.detach()
    torch.save(model.state_dict(), work / "timm.pth")
    square = table[:-3].T.reshape(1, 4, 7, 7)
    uniform = torch.nn.functional.interpolate(square, size=(15, 15), mode="bilinear").reshape(4, -1).T
    wanted = {
        "geometric-linear": resize_rel_pos_bias_table(table, (8, 8), (15 * 15 + 3, 4)),
        "uniform": torch.cat([uniform, table[-3:]]),
    }
    for way, want in wanted.items():
        beit("export", work / "timm.pth", "--format", "timm", "--image-size", 64, "--resize-tables", way, "--out", work / way)
        got = load_file(work / way / "model.safetensors")["blocks.0.attn.relative_position_bias_table"]
        d = difference(got, want)
        report(f"tables, {way}", d < 1e-5, f"{d:.1e}")


def check_dvae(root):
    from dall_e import Decoder, Encoder

    work = pathlib.Path(tempfile.mkdtemp(dir=root))
    widths = dict(n_hid=64, n_blk_per_group=1, vocab_size=512)
    encoder, decoder = randomise(Encoder(**widths)), randomise(Decoder(n_init=32, **widths))
    for name, half in [("encoder", encoder), ("decoder", decoder)]:
        torch.save(half.state_dict(), work / f"{name}.pth")
        save_file({k: v.contiguous().clone() for k, v in half.state_dict().items()}, work / f"{name}.safetensors")
    beit("export", work / "encoder.pth", "--format", "dalle", "--out", work / "out")
    for name, half in [("encoder", encoder), ("decoder", decoder)]:
        half.load_state_dict(load_file(work / "out" / f"{name}.safetensors"), strict=True)
        same = (work / "out" / f"{name}.safetensors").read_bytes()
        theirs = load_file(work / f"{name}.safetensors")
        mine = load_file(work / "out" / f"{name}.safetensors")
        report(f"dall_e {name}", all(torch.equal(theirs[k], mine[k]) for k in theirs), f"{len(same)} bytes, strict load")
    pixels = torch.rand(1, 3, 32, 32) * 0.8 + 0.1
    numbers = ours(work / "out", work, dict(pixel_values=pixels))
    with torch.no_grad():
        want = encoder(pixels)
        hot = torch.nn.functional.one_hot(want.argmax(1), 512).permute(0, 3, 1, 2).float()
        pictures = decoder(hot)
    for name, got, expected in [("logits", numbers["logits"], want), ("pictures", numbers["decoded"], pictures)]:
        d = difference(got, expected)
        report(f"dall_e {name}, beit's own forward pass", d < BOUND, f"{d:.1e}")


class Residual(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        same = dict(kernel_size=3, padding=1)
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(width, width, **same), torch.nn.ReLU(),
            torch.nn.Conv2d(width, width, **same), torch.nn.ReLU(), torch.nn.Conv2d(width, width, 1))

    def forward(self, x):
        return x + self.net(x)


class CustomDvae(torch.nn.Module):
    """The official code's second tokenizer by its published layers and names; no package of it exists."""

    def __init__(self, vocab, code, width, stages):
        super().__init__()
        self.codebook = torch.nn.Embedding(vocab, code)
        halves = []
        for kind, first in [(torch.nn.Conv2d, 3), (torch.nn.ConvTranspose2d, code)]:
            layers = []
            for stage in range(stages):
                resample = kind(width if stage else first, width, kernel_size=4, stride=2, padding=1)
                layers += [torch.nn.Sequential(resample, torch.nn.ReLU()), Residual(width)]
            halves.append(layers)
        self.encoder = torch.nn.Sequential(*halves[0], torch.nn.Conv2d(width, vocab, 1))
        self.decoder = torch.nn.Sequential(*halves[1], torch.nn.Conv2d(width, 3, 1))

    def forward(self, pixels):
        logits = self.encoder(pixels)
        return logits, self.decoder(self.codebook(logits.argmax(1)).permute(0, 3, 1, 2))


def check_custom_dvae(root):
    work = pathlib.Path(tempfile.mkdtemp(dir=root))
    model = randomise(CustomDvae(vocab=64, code=24, width=16, stages=3))
    (work / "source").mkdir()
    torch.save({"weights": model.state_dict()}, work / "source" / "pytorch_model.bin")
    beit("import", work / "source", "--out", work / "own")
    beit("export", work / "own", "--format", "official", "--out", work / "back")
    state = torch.load(work / "back" / "pytorch_model.bin", weights_only=True)["weights"]
    model.load_state_dict(state, strict=True)
    fine = all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    report(f"customised dVAE torch {torch.__version__}", fine, f"{len(state)} tensors, strict load")
    pixels = torch.rand(2, 3, 40, 24) * 2 - 1
    numbers = ours(work / "back", work, dict(pixel_values=pixels))
    with torch.no_grad():
        logits, pictures = model(pixels)
    for name, got, want in [("logits", numbers["logits"], logits), ("pictures", numbers["decoded"], pictures)]:
        d = difference(got, want)
        report(f"customised dVAE {name}, beit's own forward pass", d < BOUND, f"{d:.1e}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    BEIT = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as ROOT:
        ROOT = pathlib.Path(ROOT)
        for check in [check_transformers, check_timm, check_dvae, check_custom_dvae]:
            try:
                check(ROOT)
            except ImportError as e:
                print(f"skip {check.__name__}: {e}")
    raise SystemExit(f"{len(failures)} failed: {failures}" if failures else 0)
