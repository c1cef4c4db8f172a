"""Trains the zoo's small text-to-image model: ``python -m turbo.zoo.train_t2i_scenes``.

What lets two CPU cores reach a useful model within an hour:

* attention on all pixels is most of the cost, so the first parts of the run draw scenes of 16 x 16
  and 24 x 24 pixels that one object fills; then the UNet only has to learn where things go;
* losses of easy noise levels are weighted down (as in min-SNR), and weights are averaged over steps;
* scenes are drawn as fast as they are needed, so none is seen twice.
"""

from __future__ import annotations

import copy
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from turbo.zoo.captioned import SIDE, WORDS, captioned_scenes
from turbo.zoo.digits import preprocess
from turbo.zoo.learning import best_device, command, machine, options
from turbo.zoo.words import clip_tokenizer

# Up to this share of the run's time: pixels of a scene's side, share of scenes with two objects, batch.
STAGES = ((0.42, 16, 0.0, 64), (0.68, 24, 0.0, 24), (1.0, SIDE, 0.3, 16))
POOL = 240  # scenes drawn at a time
EMPTY = 0.12  # share of captions left empty, for guidance without a classifier
SNR_LIMIT = 5.0
AVERAGE = 0.99  # share of the average that a step keeps
LENGTH = 16  # tokens of a caption
WIDTH = 64  # of the text states
CHANNELS = (32, 64, 96)
SAVE_EVERY = 240.0  # seconds
JUDGED = 64  # images in each half of the evaluation


def build() -> Any:
    """Builds the untrained pipeline."""
    from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from turbo.zoo.pixel_pipeline import PixelDiffusionPipeline

    unet = UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=3,
        out_channels=3,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        attention_head_dim=tuple(width // 32 for width in CHANNELS),  # the number of heads, despite its name
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )
    words = clip_tokenizer(WORDS, LENGTH)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        lambda_min_clipped=-5.1,  # the noisiest levels of this schedule are beyond the solver's arithmetic
        timestep_spacing="trailing",
    )
    encoder = CLIPTextModel(text)
    with torch.no_grad():
        # The default, 0.02, leaves words all but alike beside what the first layers add.
        encoder.get_input_embeddings().weight.normal_(std=0.5)
    return PixelDiffusionPipeline(unet, encoder, words, scheduler)


def draw(words: Any, seed: int, side: int, pairs: float, batch: int) -> list[tuple[Tensor, Tensor]]:
    """Draws batches of training scenes: pixels (`b 3 h w`) and token ids (`b n`)."""
    images, captions, _ = captioned_scenes("train", POOL, seed, pairs=pairs, side=side)
    silent = torch.rand(POOL, generator=torch.Generator().manual_seed(seed)) < EMPTY
    captions = ["" if empty else caption for empty, caption in zip(silent.tolist(), captions, strict=True)]
    ids = words(captions, padding="max_length", return_tensors="pt").input_ids
    return list(zip(torch.split(preprocess(images), batch), torch.split(ids, batch), strict=True))


def training_loss(unet: nn.Module, encoder: nn.Module, levels: Tensor, pixels: Tensor, ids: Tensor) -> Tensor:
    """Computes the loss of one step: the velocity's squared error, with little weight on easy levels.

    Args:
        unet: the denoiser.
        encoder: the text encoder.
        levels: share of the image's variance that is left at each time, `t`.
        pixels: `b 3 h w`.
        ids: `b n`.

    Returns:
        The scalar loss.
    """
    times = torch.randint(len(levels), (len(pixels),), device=pixels.device)
    left = levels[times, None, None, None]
    noise = torch.randn_like(pixels)
    noisy = left.sqrt() * pixels + (1 - left).sqrt() * noise
    velocity = left.sqrt() * noise - (1 - left).sqrt() * pixels
    with torch.autocast(pixels.device.type, torch.bfloat16):
        found = unet(noisy, times, encoder_hidden_states=encoder(ids)[0], return_dict=False)[0]
    # With a signal-to-noise ratio s, min(s + 1, limit) / (s + 1): unlike plain min-SNR this keeps the
    # noisiest levels, where the caption decides what the image becomes.
    weight = (SNR_LIMIT * (1 - left)).clamp(max=1)
    loss: Tensor = ((found.float() - velocity) ** 2 * weight).mean()
    return loss


def train(
    minutes: float,
    seed: int,
    rate: float,
    device: torch.device,
    out: Path,
    start: Path | None = None,
    done: float = 0.0,
) -> dict[str, Any]:
    """Trains for a stretch of wall time; averaged weights are saved on the way, too.

    Args:
        minutes: length of the run; sizes and learning rate follow the clock.
        seed: seed of the weights, noise and scenes.
        rate: peak learning rate.
        device: where to train.
        out: folder of the saved model.
        start: a saved model to go on from.
        done: share of the run that is done already.

    Returns:
        A record of the run.
    """
    torch.manual_seed(seed)
    pipeline = build().to(device)
    if start is not None:
        saved = type(pipeline).from_pretrained(start, dtype=torch.float32)
        pipeline.unet.load_state_dict(saved.unet.state_dict())
        pipeline.text_encoder.load_state_dict(saved.text_encoder.state_dict())
    unet, encoder = pipeline.unet.train(), pipeline.text_encoder.train()
    levels = pipeline.scheduler.alphas_cumprod.to(device)
    weights = [*unet.parameters(), *encoder.parameters()]
    average = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    begin, rounds, steps = time.monotonic(), 0, 0
    seen, losses, check, shown = {side: 0 for _, side, _, _ in STAGES}, [], SAVE_EVERY, 0.0
    # The next scenes are drawn while the model trains on the last ones.
    drawer = ThreadPoolExecutor(1)
    first = 1_000_000 * seed + int(500_000 * done)
    coming = drawer.submit(draw, pipeline.tokenizer, first, *stage(done))
    while (share := done + (time.monotonic() - begin) / (60 * minutes)) < 1:
        batches = coming.result()
        rounds += 1
        coming = drawer.submit(draw, pipeline.tokenizer, first + rounds, *stage(share))
        for pixels, ids in batches:
            share = done + (time.monotonic() - begin) / (60 * minutes)
            for group in optimizer.param_groups:
                # The first steps are short: the optimizer knows nothing yet.
                group["lr"] = rate * schedule(share) * min(1.0, (steps + 1) / 40)
            loss = training_loss(unet, encoder, levels, pixels.to(device), ids.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            steps += 1
            kept = min(AVERAGE, (1 + steps) / (10 + steps))
            torch._foreach_lerp_(average, [weight.detach() for weight in weights], 1 - kept)
            losses.append(loss.item())
            seen[pixels.shape[-1]] += len(pixels)
            if share >= 1:
                break
        spent = time.monotonic() - begin
        if spent > shown + 30:
            shown = spent
            print(f"{spent:6.0f} s  {json.dumps(seen)} images  loss {sum(losses) / len(losses):.4f}", flush=True)
            losses.clear()
        if spent > check:
            check = spent + SAVE_EVERY
            save(pipeline, average, out)
    drawer.shutdown(cancel_futures=True)
    save(pipeline, average, out)
    counts = {f"images_{size}px": count for size, count in seen.items()}
    return {"minutes": round((time.monotonic() - begin) / 60, 1), **counts, "steps": steps, "seed": seed}


def stage(share: float) -> tuple[int, float, int]:
    """Gives the side, the share of pairs and the batch at a share of the run's time."""
    _, side, pairs, batch = next((part for part in STAGES if share < part[0]), STAGES[-1])
    return side, pairs, batch


def schedule(share: float) -> float:
    """Gives the learning rate, as a share of its peak: a cosine."""
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def save(pipeline: Any, average: list[Tensor], out: Path) -> None:
    """Writes a pipeline with averaged weights, in half precision."""
    shipped = copy.deepcopy(pipeline)
    parts = [*shipped.unet.parameters(), *shipped.text_encoder.parameters()]
    with torch.no_grad():
        for weight, mean in zip(parts, average, strict=True):
            weight.copy_(mean)
    for part in (shipped.unet, shipped.text_encoder):
        part.cpu().half()
    shipped.save_pretrained(out)
    for path in (out / "model_index.json", out / "unet" / "config.json"):
        written = json.loads(path.read_text())
        written.pop("_name_or_path", None)  # the folder that a run went on from is nobody's business
        path.write_text(json.dumps(written, indent=2) + "\n")
    for path in out.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # weights come out readable by their owner alone


def finish(record: dict[str, Any], out: Path) -> None:
    """Measures what was saved against the judge, with held-out digits, and writes the model card."""
    from turbo.zoo.judge import SceneJudge
    from turbo.zoo.pixel_pipeline import PixelDiffusionPipeline

    judge = SceneJudge.from_pretrained(Path(__file__).parent / "weights" / "scene-judge")
    pipeline = PixelDiffusionPipeline.from_pretrained(out, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    parts = [pipeline.unet, pipeline.text_encoder]
    record["parameters"] = sum(weight.numel() for part in parts for weight in part.parameters())
    for name, pairs in (("one", 0.0), ("two", 1.0)):
        images, captions, labels = captioned_scenes("test", JUDGED, 1, pairs=pairs)
        generator = torch.Generator().manual_seed(1)
        start = time.monotonic()
        made = torch.cat(
            [
                pipeline(captions[first : first + 32], generator=generator, output_type="pt").images
                for first in range(0, JUDGED, 32)
            ]
        )
        record["rate"] = JUDGED / (time.monotonic() - start)
        record[name] = {"made": judge.agreement(made, labels), "drawn": judge.agreement(images, labels)}
    (out / "README.md").write_text(card(record), encoding="utf-8")
    print(json.dumps(record), flush=True)


def card(record: dict[str, Any]) -> str:
    """Writes the model card."""
    rows = "\n".join(
        f"| {name} | "
        + " | ".join(f"{record[many][kind][name]:.0%}" for many in ("one", "two") for kind in ("made", "drawn"))
        + " |"
        for name in record["one"]["made"]
    )
    return f"""# t2i-scenes

A text-to-image diffusion model of the classes of Stable Diffusion 1.x (`UNet2DConditionModel` with attention over all
1,024 pixels of a 32 x 32 image, `CLIPTextModel`, `DPMSolverMultistepScheduler`), without its
autoencoder: {record["parameters"]:,} parameters. It draws captions such as "a small red circle left of a big blue
three on striped ground". Trained from scratch for this library; the weights are under the library's
licence (Apache-2.0).

- **Data:** scenes drawn by `turbo/zoo/captioned.py`, none seen twice. Digits are scikit-learn's bundled
  `load_digits` (UCI "Optical Recognition of Handwritten Digits", CC BY 4.0), 1,197 of its 1,797 scans.
- **Training:** velocity prediction on a cosine schedule, captions dropped in {EMPTY:.0%} of scenes for guidance,
  averaged weights; {record["images_16px"]:,} scenes of 16 x 16 pixels and {record["images_24px"]:,} of 24 x 24 with
  one object each, then {record["images_32px"]:,} of 32 x 32, some with two.
- **Command:** `{record["command"]}`
- **Time:** {record["minutes"]} minutes, {record["steps"]:,} steps, on {record["machine"]}, shared with other jobs.
- **Weights:** float16; `turbo.zoo.load("t2i-scenes")` gives a `PixelDiffusionPipeline` in float32.

Agreement of images with their captions, as `scene-judge` sees it, at the pipeline's defaults: {JUDGED} held-out
scenes with one object and {JUDGED} with two. "drawn" is the judge's agreement with the drawn scenes themselves, the
most that a generated image can be expected to reach.

| right | one object | drawn | two objects | drawn |
| --- | --- | --- | --- | --- |
{rows}

"size", "colour" and "kind" count objects, the others images; "exact" asks for everything at once.
Chance is 50% for size, 17% for colour, 5 to 10% for kind and 25% for ground.

The schedule follows the clock, so a second run, or another machine, gives other weights. The model
is for tests and measurements of token merging, and for nothing else: it knows {len(WORDS)} words.
"""


def main() -> None:
    """Runs the training from the command line."""
    parser = options("t2i-scenes", __doc__, minutes=45.0, seed=0, rate=1.5e-3)
    parser.add_argument("--start", type=Path, help="a saved model to go on from")
    parser.add_argument("--done", type=float, default=0.0, help="share of the run that it has behind it")
    chosen = parser.parse_args()
    device = best_device()
    record = train(chosen.minutes, chosen.seed, chosen.rate, device, chosen.out, chosen.start, chosen.done)
    record["machine"] = machine()
    record["command"] = command("train_t2i_scenes", chosen)
    finish(record, chosen.out)


if __name__ == "__main__":
    main()
