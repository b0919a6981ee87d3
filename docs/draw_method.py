"""Draws the picture of the method in README and on the site, in light and in dark: python docs/draw_method.py."""

from pathlib import Path

HERE = Path(__file__).resolve().parent / "images"
PALETTES = {
    "light": {
        "ink": "#1f2933",
        "faint": "#5b6770",
        "line": "#9aa5b1",
        "box": "#f4f6f8",
        "good": "#0072b2",
        "bad": "#b4490a",
    },
    "dark": {
        "ink": "#e6e9ec",
        "faint": "#a9b4be",
        "line": "#64707c",
        "box": "#20262d",
        "good": "#6cc0f5",
        "bad": "#f0a35e",
    },
}
ANSWERS = (
    ("fluid in the left pleural space", "1.00", "+0.69", "good"),
    ("left pleural effusion", "1.00", "+0.69", "good"),
    ("a pleural effusion", "0.70", "+0.04", "good"),
    ("right pleural effusion", "0.03", "−1.43", "bad"),
)
"""Answer, what the clinical scorer pays for it, its advantage in the group, colour; a test does the sums again."""


def picture(name: str) -> str:
    """The picture as SVG in one palette."""
    p = PALETTES[name]
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 316" role="img" aria-labelledby="title">',
        '<title id="title">A policy answers one question several times; a reward grades each answer; what is above the '
        "group's mean becomes likelier; before that the reward is audited, and afterwards the model is tested against "
        "baselines.</title>",
        f"<style>text{{font:13px system-ui,sans-serif;fill:{p['ink']}}}.s{{font-size:11.5px;fill:{p['faint']}}}"
        f".h{{font-weight:600}}.b{{fill:{p['box']};stroke:{p['line']}}}.a{{fill:none;stroke:{p['line']};stroke-width:1.6}}"
        f".good{{fill:{p['good']};font-weight:600}}.bad{{fill:{p['bad']};font-weight:600}}.n{{text-anchor:end}}"
        ".m{text-anchor:middle}</style>",
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{p["line"]}"/></marker></defs>',
        *box(12, 40, 194, 150, "image and question"),
        f'<rect x="32" y="76" width="60" height="60" rx="4" fill="{p["ink"]}" opacity=".16"/>',
        f'<path d="M46 128c-4-20 0-38 10-42v42zM78 128c4-20 0-38-10-42v42z" fill="{p["ink"]}" opacity=".5"/>',
        f'<path d="M70 128h10c2-6 2-10 1-15l-11 4z" fill="{p["good"]}"/>',
        *lines(102, 92, ("What is", "the abnormality?")),
        '<text class="s" x="32" y="158">reference:</text><text class="s" x="32" y="175">left pleural effusion</text>',
        *arrow(206, 115, 232, 115),
        *box(236, 40, 122, 150, "policy"),
        '<text class="s m" x="297" y="96">a vision-language</text>'
        '<text class="s m" x="297" y="112">model, after SFT</text>'
        '<text class="s m" x="297" y="144">answers</text><text class="s m" x="297" y="160">several times</text>',
        *arrow(358, 115, 384, 115),
        *box(388, 40, 336, 150, "a group, graded by the reward"),
        '<text class="s n" x="638" y="84">pays</text><text class="s n" x="708" y="84">advantage</text>',
    ]
    for row, (answer, pays, advantage, colour) in enumerate(ANSWERS):
        y = 106 + 24 * row
        parts.append(
            f'<text x="404" y="{y}">{answer}</text><text class="n" x="638" y="{y}">{pays}</text>'
            f'<text class="n {colour}" x="708" y="{y}">{advantage}</text>'
        )
    parts += [
        *arrow(724, 115, 750, 115),
        *box(754, 40, 154, 150, "tested"),
        *(f'<text class="s m" x="831" y="{y}">{text}</text>' for y, text in TESTED),
        '<path class="a" d="M556 190v30H320v-24" marker-end="url(#tip)"/>',
        '<text class="s m" x="452" y="240">GRPO: what is above the mean of its group becomes likelier</text>',
        '<path class="a" d="M700 262v-66" stroke-dasharray="4 3" marker-end="url(#tip)"/>',
        *box(536, 262, 372, 46, ""),
        '<text x="550" y="281"><tspan class="h">audit first:</tspan> does the reward tell right from wrong,</text>'
        '<text x="550" y="299">leave something to learn, resist cheats?</text>',
        *box(12, 262, 360, 46, ""),
        '<text x="26" y="281"><tspan class="h">SFT first:</tspan> the model learns the form of an answer</text>'
        '<text x="26" y="299">from your training split</text>',
        '<path class="a" d="M262 262v-66" stroke-dasharray="4 3" marker-end="url(#tip)"/>',
        '<text class="h" x="12" y="24">One step of training, and what stands around it</text></svg>',
    ]
    return "\n".join(parts) + "\n"


TESTED = (
    (84, "held-out images,"),
    (100, "beside the most"),
    (116, "frequent answer,"),
    (132, "blank pictures and"),
    (148, "the start model,"),
    (164, "with 95 % intervals"),
)


def box(x: int, y: int, width: int, height: int, title: str):
    """A box with its title inside."""
    yield f'<rect class="b" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>'
    if title:
        yield f'<text class="h" x="{x + 16}" y="{y + 24}">{title}</text>'


def lines(x: int, y: int, texts: tuple[str, ...]):
    """Small lines of text below each other."""
    for row, text in enumerate(texts):
        yield f'<text class="s" x="{x}" y="{y + 16 * row}">{text}</text>'


def arrow(x1: int, y1: int, x2: int, y2: int):
    """An arrow."""
    yield f'<path class="a" d="M{x1} {y1}L{x2} {y2}" marker-end="url(#tip)"/>'


if __name__ == "__main__":
    for palette in PALETTES:
        (HERE / f"method_{palette}.svg").write_text(picture(palette), encoding="utf-8")
