"""What the figures of the benchmarks share: panels beside each other over a key."""


def page(panels: list[str], key: str) -> str:
    """An SVG of panels 250 wide, `key` (at y 252) under them."""
    width = 70 + 250 * len(panels)
    placed = "".join(
        f'<g transform="translate({60 + 250 * i},30)">{panel}</g>' for i, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 270" '
        'font-family="sans-serif" font-size="11" fill="#444">'
        f'<rect width="{width}" height="270" fill="#fff"/>{placed}{key}</svg>\n'
    )


def key(entries: dict[str, str], apart: int) -> str:
    """A dot and a text for each entry, colours by text, `apart` pixels from one to the next."""
    return "".join(
        f'<circle cx="{70 + apart * i}" cy="252" r="4" fill="{colour}"/>'
        f'<text x="{80 + apart * i}" y="256">{text}</text>'
        for i, (text, colour) in enumerate(entries.items())
    )


def title(text: str) -> str:
    """A panel's."""
    return f'<text x="100" y="-10" text-anchor="middle" font-weight="bold">{text}</text>'


def line(y: float, text: object) -> str:
    """A line across a panel, its value left of it."""
    return (
        f'<text x="-6" y="{y + 4:.0f}" text-anchor="end">{text}</text>'
        f'<path d="M0 {y:.0f}H200" stroke="#eee"/>'
    )


def mark(x: float, text: object) -> str:
    """A value under a panel."""
    return f'<text x="{x:.0f}" y="196" text-anchor="middle">{text}</text>'
