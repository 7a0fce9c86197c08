"""Where the editor really draws a graph's nodes and groups, and what of it is in the other's
way.
"""

from __future__ import annotations

from dataclasses import dataclass

from browser import Page

APART = 8  # units of the graph that have to be free between two nodes

# In Nodes 2.0 a node is an HTML element and as high as its contents; else it is what LiteGraph
# draws, title included.
BOXES = """() => {
    const {canvas} = window.app, {graph, ds} = canvas, view = canvas.canvas.getBoundingClientRect();
    const title = window.LiteGraph.NODE_TITLE_HEIGHT;
    const element = (node) => document.querySelector(`[data-node-id="${node.id}"]`);
    const drawn = (node) => [node.pos[0], node.pos[1] - title, node.size[0], node.size[1] + title];
    const measured = ({x, y, width, height}) => [(x - view.x) / ds.scale - ds.offset[0],
        (y - view.y) / ds.scale - ds.offset[1], width / ds.scale, height / ds.scale];
    return {
        elements: graph.nodes.filter(element).length,
        nodes: graph.nodes.map((node) => [node.title, element(node)
            ? measured(element(node).getBoundingClientRect()) : drawn(node)]),
        groups: graph.groups.map((group) => [group.title, [...group.pos, ...group.size]])}
}"""


@dataclass(frozen=True)
class Box:
    """A rectangle on the canvas: its title, left, top, right and bottom in units of the graph."""

    title: str
    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def of(cls, title: str, rectangle: list[float]) -> Box:
        x, y, width, height = rectangle
        return cls(title, x, y, x + width, y + height)

    def meets(self, other: Box, apart: float = 0) -> bool:
        """Whether the two have less than `apart` between them."""
        return (
            self.left < other.right + apart
            and other.left < self.right + apart
            and self.top < other.bottom + apart
            and other.top < self.bottom + apart
        )

    def holds(self, other: Box) -> bool:
        """Whether the other one is inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


def settled(page: Page) -> dict:
    """What BOXES says of the whole graph in view, once it has stopped moving."""
    page.command("Comfy.Canvas.FitView")
    before, now = None, page.page.evaluate(BOXES)
    while before != now:
        page.page.wait_for_timeout(400)
        before, now = now, page.page.evaluate(BOXES)
    return now


def in_the_way(page: Page) -> list[str]:
    """Nodes that overlap or nearly touch, groups that overlap, nodes that stick out of their group;
    in words.
    """
    now = settled(page)
    nodes = [Box.of(*entry) for entry in now["nodes"]]
    groups = [Box.of(*entry) for entry in now["groups"]]
    found = [
        f"'{a.title}' and '{b.title}' are in each other's way: {a}, {b}"
        for boxes, apart in ((nodes, APART), (groups, 0))
        for number, a in enumerate(boxes)
        for b in boxes[:number]
        if a.meets(b, apart)
    ]
    return found + [
        f"'{node.title}' sticks out of '{group.title}': {node}, {group}"
        for node in nodes
        for group in groups
        if node.meets(group) and not group.holds(node)
    ]
