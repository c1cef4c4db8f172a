"""The pictures of docs/how-it-works.md and of the home page: ``python benchmarks/walk_pictures.py``.

One scene that the shipped captioner has never seen, its first block with S1, step by step, and what all blocks leave.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from textwrap import fill

import torch
from walk_card import (
    DESTINATION,
    GREY,
    LINE,
    SOURCE,
    arrow,
    bare,
    box,
    card,
    heat,
    lines,
    merged,
    place,
    plt,
    save,
    show,
)
from walk_scene import ALPHA, SIDE, Run, Step, all_blocks, first_block

from turbo.reporting import Report

ROOT = Path(__file__).parents[1]
HOME = (2, 1, 11, 6)  # scenes of the home page; the walk's own comes first


def patches(path: Path, step: Step) -> None:
    """The image, and the same cut into patches, of which each becomes a token."""
    figure, panels = card(9.6, 4.0, 1, 1, 0.7)
    image, cut, row = panels[0]
    show(image, step.image, "the image, 112 x 112 pixels")
    show(cut, step.image, "196 patches of 8 x 8 pixels")
    lines(cut)
    bare(row, "197 tokens in a row")
    tokens = ("class", "0", "1", "2", "…", "195")
    patch = step.image.shape[0] // SIDE
    for spot, name in enumerate(tokens):
        if name.isdigit():
            top, left = (int(name) // SIDE * patch, int(name) % SIDE * patch)
            picture = step.image[top : top + patch, left : left + patch]
            row.imshow(picture, extent=(1, 2, spot * 1.2 + 1, spot * 1.2), interpolation="nearest")
        else:
            row.text(1.5, spot * 1.2 + 0.5, name, va="center", ha="center")
    row.text(2.5, 0.5, "reads the image", va="center", color=GREY)
    row.text(2.5, 3.0, "one for each patch,\nleft to right, top to bottom", va="center", color=GREY, linespacing=1.5)
    row.set(xlim=(0.6, 7.6), ylim=(7.2, -0.2), aspect="equal")
    save(figure, path)


def halves(path: Path, step: Step) -> None:
    """Which patches may merge and which may receive."""
    figure, panels = card(9, 4.1, 1, 1)
    roles, colour = panels[0]
    show(roles, step.image, "the first block: every second column")
    for patch in range(SIDE * SIDE):
        x, y = place(patch)
        source = patch in step.source
        style = {"facecolor": SOURCE if source else DESTINATION, "alpha": 0.45, "linewidth": 0}
        roles.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, **style))
    lines(roles, width=0.4)
    bare(colour)
    colour.set(xlim=(0, 10), ylim=(0, 10))
    texts = (
        (SOURCE, "98 sources", "at even positions:\neach may merge away"),
        (DESTINATION, "98 destinations", "at odd positions:\neach may receive any number"),
        (GREY, "the class token", "at position 0: protected,\nneither merges nor receives"),
    )
    for line, (colour_of, name, what) in enumerate(texts):
        colour.add_patch(plt.Rectangle((0.3, 7.2 - 3.1 * line), 1.1, 1.1, facecolor=colour_of, alpha=0.8))
        colour.text(1.9, 7.9 - 3.1 * line, name, weight="bold", va="center")
        colour.text(1.9, 7.3 - 3.1 * line, what, va="top", linespacing=1.4)
    save(figure, path)


def redundancy(path: Path, step: Step) -> None:
    """R of every source, and the partners of some."""
    figure, panels = card(9, 4.1, 1, 1)
    pairs, map_ = panels[0]
    show(pairs, step.image, "some sources and their partners", faint=0.25)
    order = step.redundancy.argsort()
    for rank in (0, 2, 9, 30, 52, 74, 85, 96):
        index = int(order[rank])
        source, partner = int(step.source[index]), int(step.partner[index])
        box(pairs, source, SOURCE)
        box(pairs, partner, DESTINATION)
        arrow(pairs, source, partner)
        x, y = place(source)
        label = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}
        above = y - 0.95 if y > 1 else y + 0.95
        pairs.text(x, above, f"{step.redundancy[index]:.2f}", ha="center", va="center", fontsize=11, bbox=label)
    every = torch.full((SIDE * SIDE,), torch.nan)
    every[step.source] = step.redundancy
    drawn = heat(map_, every, "viridis", "R of every source")
    figure.colorbar(drawn, ax=map_, shrink=0.85, label="cosine with the partner")
    save(figure, path)


def value(path: Path, step: Step) -> None:
    """A of every patch beside the image."""
    figure, panels = card(9, 4.1, 0.82, 1)
    image, map_ = panels[0]
    show(image, step.image, "the image")
    drawn = heat(map_, step.value, "magma", "A: what the class token looks at", vmin=0)
    figure.colorbar(drawn, ax=map_, shrink=0.85, label="1 is the average")
    save(figure, path)


def degree(path: Path, step: Step) -> None:
    """R against A with the line that separates what merges, and where that is."""
    figure, panels = card(10, 4.3, 1.15, 1)
    scatter, image = panels[0]
    least = step.priority[step.chosen].min()
    stays = torch.ones(len(step.source), dtype=torch.bool)
    stays[step.chosen] = False
    of_source = step.value[step.source]
    scatter.scatter(of_source[stays], step.redundancy[stays], color=GREY, marker="x", s=34, label="stays")
    scatter.scatter(
        of_source[~stays],
        step.redundancy[~stays],
        color=SOURCE,
        s=34,
        edgecolor="black",
        linewidth=0.5,
        label=f"merges: the {len(step.chosen)} of highest E",
    )
    amount = torch.logspace(-1.3, 1.3, 200)
    scatter.plot(amount, least + ALPHA * amount, color=LINE, linewidth=2, label=f"R − {ALPHA:g} A = {least:.3f}")
    scatter.set(xscale="log", xlim=(0.055, 18), ylim=(0.36, 1.02), xlabel="A, 1 is the average", ylabel="R")
    scatter.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    scatter.legend(loc="lower left", frameon=False, fontsize=12)
    scatter.set_title("each point is a source")
    show(image, step.image, "the sources that merge", faint=0.25)
    for patch in step.source[step.chosen].tolist():
        box(image, patch, SOURCE, 2.4)
    save(figure, path)


def merge(path: Path, step: Step) -> None:
    """The arrows of all that merge, and the tokens after it with their sizes."""
    figure, panels = card(9, 4.6, 1, 1)
    before, after = panels[0]
    show(before, step.image, f"{len(step.chosen)} sources go into their partners", faint=0.25)
    for index in step.chosen.tolist():
        arrow(before, int(step.source[index]), int(step.partner[index]), SOURCE, 1.4)
    merged(after, step.image, step.groups, f"{len(step.size)} tokens, with s where it is above 1")
    for patch, token in enumerate(step.groups.tolist()):
        if step.size[token] > 1:
            number = {"ha": "center", "va": "center", "fontsize": 10, "weight": "bold", "color": "white"}
            after.text(*place(patch), f"{step.size[token]}", **number)
    save(figure, path)


def sizes(path: Path, step: Step) -> None:
    """Attention to two equal tokens, to the one they became, and to that one with log s."""
    scores = torch.tensor([[2.2, 1.0, 0.3], [0.6, 1.7, 0.4], [0.2, 0.9, 1.9]])
    doubled, size = scores[:, [0, 1, 1, 2]], torch.tensor([1.0, 2.0, 1.0])
    parts = (
        ("four tokens, two of them equal", ("a", "b", "b", "c"), doubled.softmax(-1), (1, 1, 1, 1)),
        ("merged, counted once: wrong", ("a", "b", "c"), scores.softmax(-1), (1, 2, 1)),
        ("merged, with log s: as before", ("a", "b, s = 2", "c"), (scores + size.log()).softmax(-1), (1, 2, 1)),
    )
    figure, panels = card(10.5, 3.2, 1, 1, 1)
    for panel, (title, names, share, widths) in zip(panels[0], parts, strict=True):
        bare(panel, title)
        panel.set(xlim=(-0.6, 4.05), ylim=(3.05, -0.5))
        left = 0
        for column, (name, wide) in enumerate(zip(names, widths, strict=True)):
            panel.text(left + wide / 2, -0.22, name, ha="center", va="center")
            for row in range(3):
                amount = float(share[row, column])
                shade = plt.get_cmap("viridis_r")(0.05 + amount)
                edge = SOURCE if name.startswith("b") else "white"
                panel.add_patch(
                    plt.Rectangle(
                        (left + 0.04, row + 0.04), wide - 0.08, 0.92, facecolor=shade, edgecolor=edge, linewidth=2.5
                    )
                )
                colour = "white" if amount > 0.4 else "black"
                panel.text(left + wide / 2, row + 0.52, f"{amount:.2f}", ha="center", va="center", color=colour)
            left += wide
        for row, name in enumerate("abc"):
            panel.text(-0.3, row + 0.52, name, ha="center", va="center")
    save(figure, path)


def depth(path: Path, run: Run, report: Report) -> None:
    """The groups after every block, and what each block costs."""
    figure, panels = card(9, 7.6, 1, 1, 1, rows=2)
    for number, (groups, panel) in enumerate(zip(run.groups, panels.flat, strict=True)):
        block = report.blocks[number]
        merged(panel, run.image, groups, f"block {number}: {block.tokens_in} → {run.left[number]} tokens", width=0.8)
        parts = (
            (run.left[number] / report.n, DESTINATION, "tokens"),
            (block.flops / block.flops_untouched, SOURCE, "FLOPs"),
        )
        for line, (share, colour, what) in enumerate(parts):
            top = SIDE + 0.5 + 1.3 * line
            panel.add_patch(plt.Rectangle((0, top), SIDE, 1, facecolor="#eeeeee"))
            panel.add_patch(plt.Rectangle((0, top), SIDE * share, 1, facecolor=colour))
            panel.text(0.25, top + 0.53, f"{share:.0%} of the {what}", va="center", fontsize=11)
        panel.set_ylim(SIDE + 3, 0)
    save(figure, path)


def home(path: Path, runs: list[Run]) -> None:
    """Scenes, what is left of them, and the caption that both models write."""
    figure, panels = card(12, 7.0, *[1] * len(runs), rows=2)
    panels[0][0].get_gridspec().set_height_ratios((SIDE, SIDE + 2.4))
    for column, run in enumerate(runs):
        show(panels[0][column], run.image, f"{SIDE * SIDE} patches")
        merged(panels[1][column], run.image, run.groups[-1], f"{run.left[-1] - 1} tokens after {len(run.left)} blocks")
        if run.caption != run.untouched:
            raise ValueError(f"the captions differ: {run.untouched!r}, accelerated {run.caption!r}")
        style = {"ha": "center", "va": "top", "fontsize": 11, "style": "italic", "in_layout": False}
        panels[1][column].text(SIDE / 2, SIDE + 0.4, fill(f"“{run.caption}”", 38), **style)
        panels[1][column].set_ylim(SIDE + 2.4, 0)
    save(figure, path)


def main() -> None:
    """Computes and draws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    out = parser.parse_args().out
    runs, report = all_blocks(HOME)
    step = first_block(report.blocks[0].merged)
    for number, draw in enumerate((patches, halves, redundancy, value, degree, merge, sizes), start=1):
        draw(out / f"walk-{number}-{draw.__name__}.png", step)
    depth(out / "walk-8-depth.png", runs[0], report)
    home(out / "home.png", runs)


if __name__ == "__main__":
    main()
