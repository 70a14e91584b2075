"""PyTorch's time for the workloads t-micro, f and t-tiny (docs/performance.md), beside a product of 512 x 512 x 512.

Needs torch and transformers; run it in turn with `beit bench --adapter cpu --workload NAME`:

    python benches/pytorch_step.py [ROUNDS]
"""

import statistics
import sys
import time

import torch
from torch.nn.functional import cross_entropy
from transformers import BeitConfig, BeitForMaskedImageModeling

THREADS = 2
RUNS = 7

# name: width, depth, heads, MLP width, side of the picture, of a patch, vocabulary, pictures, masked patches of each, GFLOP of
# products and convolutions, whether it is a training step
WORKLOADS = {
    "t-micro": (64, 4, 4, 256, 32, 4, 256, 64, 26, 5.977, True),
    "f": (192, 12, 3, 768, 224, 16, 8192, 1, 75, 2.743, False),
    "t-tiny": (192, 12, 3, 768, 224, 16, 8192, 8, 75, 65.83, True),
}


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def product_rate():
    """GFLOP/s of a 512^3 product, median of fifteen times ten."""
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    times = [seconds(lambda: [a @ b for _ in range(10)]) / 10 for _ in range(15)]
    return 2 * 512**3 / statistics.median(times) / 1e9


def step_of(width, depth, heads, mlp, side, patch, vocabulary, pictures, masked, train):
    model = BeitForMaskedImageModeling(
        BeitConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=mlp,
            image_size=side,
            patch_size=patch,
            use_shared_relative_position_bias=True,
            use_mask_token=True,
            layer_scale_init_value=0.1,
            drop_path_rate=0.0,
        )
    )
    patches = (side // patch) ** 2
    images = torch.randn(pictures, 3, side, side)
    mask = torch.zeros(pictures, patches, dtype=torch.bool)
    for row in mask:
        row[torch.randperm(patches)[:masked]] = True
    ids = torch.randint(0, vocabulary, (pictures * masked,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def logits():
        """Of the masked patches only, as the engine computes them."""
        hidden = model.layernorm(model.beit(images, bool_masked_pos=mask)[0])[:, 1:]
        return model.lm_head(hidden[mask])

    def training_step():
        optimizer.zero_grad()
        cross_entropy(logits(), ids).backward()
        optimizer.step()

    def forward():
        with torch.no_grad():
            torch.softmax(logits(), -1)

    return training_step if train else forward


def main():
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        for name, (*sizes, gflop, train) in WORKLOADS.items():
            step = step_of(*sizes, train)
            step(), step()
            times, rates = [], []
            for _ in range(RUNS):
                rates.append(product_rate())
                times.append(seconds(step))
            median, rate = statistics.median(times), statistics.median(rates)
            print(
                f"{name}: {median:.4f} s ({min(times):.4f} to {max(times):.4f}), {gflop / median:.0f} GFLOP/s, "
                f"{gflop / median / rate:.2f} of {rate:.0f} GFLOP/s at 512^3",
                flush=True,
            )


main()
