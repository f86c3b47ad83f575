"""Scenes: furnished rooms and cluttered tables, endless and seeded.

Scene number i of a seed is the same on every machine, whoever makes it: workers shard by index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import math
import random

from .assets import Asset, Assets, model_thing
from .clutter import bag, ball, books, carton, clutter, plant
from .furniture import (
    bed,
    cabinet,
    chair,
    curtain,
    cylinder_bin,
    floor_lamp,
    person,
    shelf,
    sofa,
    table,
)
from .materials import color, fabric, flooring, lacquer_or, metal, paint, printed
from .objects import Thing, footprint, placed
from .solids import Kind, Lamp, Material, Scene, Solid, Vector, box, cylinder

Rectangle = tuple[float, float, float, float]
"""Centre x, y and half extents."""


def rng_of(seed: int, index: int, stream: int = 0) -> random.Random:
    """Return the source of all randomness of one scene (stream 0) or of its cameras (others)."""
    return random.Random((seed << 80) | (index << 16) | stream)


def sample_scene(seed: int, index: int, assets: Assets | None = None) -> Scene:
    """Return scene number `index` of a seed, furnished with models where there are assets."""
    rng = rng_of(seed, index)
    layout = rng.choices(
        (_tabletop, _office, _living, _kitchen, _bedroom, _storage, _bare, _corridor, _hall),
        (6, 3, 3, 3, 2, 2, 1, 2, 2),
    )[0]
    room = _Room(rng, layout.__name__.strip('_'), assets)
    for _ in range(max(1, min(round(room.floor_m2 / 12), 8))):
        layout(room)
    room.finish()
    return room.scene


class _Room:
    """A scene in the making: walls, what stands on the floor, what stands on what."""

    def __init__(self, rng: random.Random, name: str, assets: Assets | None) -> None:
        self.rng = rng
        self.assets = assets
        small = name in ('tabletop', 'storage', 'kitchen')
        low, high = (2.4, 4.2) if small else (5.0, 10.0) if rng.random() < 0.3 else (3.2, 6.5)
        self.half = (rng.uniform(low, high) / 2, rng.uniform(low, high) / 2)
        self.tall = rng.uniform(2.3, 3.0)
        if name == 'corridor':
            self.half = (rng.uniform(0.55, 1.2), rng.uniform(2.5, 8.0))
        elif name == 'hall':
            self.half = (rng.uniform(4.0, 8.0), rng.uniform(4.0, 8.0))
            self.tall = rng.uniform(2.5, 4.5)
        self.scene = Scene(size_m=(2 * self.half[0], 2 * self.half[1], self.tall), name=name)
        self.taken: list[Rectangle] = []
        self.windows: list[tuple[int, Vector, float]] = []
        self.on_wall: list[list[tuple[float, float]]] = [[], [], [], []]
        self.number = 0
        self._shell()

    # ------------------------------------------------------------------------------ building

    @property
    def floor_m2(self) -> float:
        """Area of the floor."""
        return 4 * self.half[0] * self.half[1]

    def add(self, solids: Iterable[Solid]) -> None:
        """Add the parts of one object."""
        for solid in solids:
            self.scene.solids.append(solid._replace(instance=self.number))
        self.number += 1

    def _shell(self) -> None:
        rng, (a, b) = self.rng, self.half
        paints = [self.surfaced(paint(rng), 0.3, 'plaster', 'bricks', 'clay')] * 4
        if rng.random() < 0.4:
            paints[rng.randrange(4)] = paint(rng)
        floor = self.surfaced(flooring(rng), 0.4, 'wood', 'tile', 'felt', 'ceramic')
        self.add([box((0, 0, -0.1), (a + 0.2, b + 0.2, 0.1), floor)])
        ceiling = paint(rng)._replace(palette=((0.7, 0.7, 0.68),) * 3)
        self.add([box((0, 0, self.tall + 0.1), (a + 0.2, b + 0.2, 0.1), ceiling)])
        windows = rng.choices((0, 1, 2), (0.45, 0.4, 0.15))[0]
        glazed = set(rng.sample(range(4), windows))
        door = rng.randrange(4)
        skirting = lacquer_or(rng) if rng.random() < 0.6 else None
        for wall in range(4):
            long, _ = self.extent(wall)
            if wall in glazed:
                self._window(wall, paints[wall])
            elif wall == door and rng.random() < 0.25 and long > 1.2:
                self._doorway(wall, paints[wall])
            else:
                half = (long + 0.2, 0.1, self.tall / 2)
                self.add(
                    self.at_wall(
                        Thing([box((0, 0, self.tall / 2), half, paints[wall])], (long, 0.1), 0),
                        wall,
                        0,
                        -0.2,
                    )
                )
                if wall == door and long > 0.9:
                    self.door(wall)
            if skirting and not self.on_wall[wall]:
                thing = Thing(
                    [box((0, 0, 0.04), (long, 0.007, 0.04), skirting)], (long, 0.007), 0.08
                )
                self.add(self.at_wall(thing, wall, 0.0))
        if rng.random() < 0.12:
            corner = (rng.choice((-1, 1)), rng.choice((-1, 1)))
            r = rng.uniform(0.1, 0.25)
            x, y = corner[0] * (a - 1.2 * r), corner[1] * (b - 1.2 * r)
            stuff = paints[0]
            self.add(
                [
                    cylinder((x, y, self.tall / 2), r, self.tall / 2, stuff)
                    if rng.random() < 0.4
                    else box((x, y, self.tall / 2), (r, r, self.tall / 2), stuff)
                ]
            )
            self.taken.append((x, y, r, r))

    def extent(self, wall: int) -> tuple[float, float]:
        """Return half the length of a wall, and its distance from the middle of the room."""
        return self.half if wall % 2 == 0 else self.half[::-1]

    def at_wall(
        self, thing: Thing, wall: int, along: float, gap: float = 0.0, z: float = 0.0
    ) -> list[Solid]:
        """Return a thing with its back at a wall; wall 0 is at +y, then counter-clockwise."""
        x, y = self.spot(wall, along, thing.half_m[1] + gap)
        return placed(thing, x, y, z, wall * math.pi / 2)

    def spot(self, wall: int, along: float, off: float) -> tuple[float, float]:
        """Return the point at a distance off a wall."""
        _, far = self.extent(wall)
        c, s = (1, 0, -1, 0)[wall], (0, 1, 0, -1)[wall]
        x, y = along, far - off
        return c * x - s * y, s * x + c * y

    def _window(self, wall: int, stuff: Material) -> None:
        rng, (long, _) = self.rng, self.extent(wall)
        a = min(rng.uniform(0.4, 1.1), long - 0.25)
        low, high = rng.uniform(0.5, 1.0), rng.uniform(1.7, self.tall - 0.2)
        along = rng.uniform(a + 0.2 - long, long - a - 0.2)
        c, middle = (high - low) / 2, (high + low) / 2
        half = (long + 0.2, 0.1, self.tall / 2)
        pane = Solid(
            Kind.HOLLOW, (0, 0, self.tall / 2), half, stuff,
            hole_center_m=(along, 0, middle - self.tall / 2), hole_half_m=(a, 0.12, c),
        )  # fmt: skip
        self.add(self.at_wall(Thing([pane], (long, 0.1), 0), wall, 0, -0.2))
        frame, t = lacquer_or(rng), 0.03
        bars = [box((x, 0, middle), (t, 0.03, c), frame) for x in (t - a, 0.0, a - t)]
        bars += [box((0, 0, z), (a, 0.03, t), frame) for z in (low + t, high - t)]
        clear = Material(
            ((0.95, 1.0, 0.97),) * 3,
            0,
            specular=0.5,
            shininess=600,
            ir_reflectance=0.02,
            glass=0.92,
        )
        bars.append(box((0, 0, middle), (a, 0.003, c), clear))
        self.add(self.at_wall(Thing(bars, (a, 0.03), 0), wall, along, -0.12))
        x, y = self.spot(wall, along, 0.02)
        self.windows.append((wall, (x, y, middle), min(a, c)))
        self.on_wall[wall].append((along, a + 0.1))
        if rng.random() < 0.5:
            for side in (-1, 1):
                hang = curtain(rng, (rng.uniform(0.12, 0.3), rng.uniform(0.9, high / 2 + 0.05)))
                spot = along + side * a
                if abs(spot) + hang.half_m[0] < long:
                    top = high + 0.08
                    self.add(self.at_wall(hang, wall, spot, 0.01, max(top - hang.height_m, 0.02)))
        if rng.random() < 0.5:  # a house across the street
            x, y = self.spot(wall, rng.uniform(-3, 3), -rng.uniform(5, 12))
            house = Thing(
                [box((0, 0, 2), (rng.uniform(2, 5), 1, rng.uniform(3, 6)), paint(rng))], (3, 1), 6
            )
            self.add(placed(house, x, y, 0, wall * math.pi / 2))

    def _doorway(self, wall: int, stuff: Material) -> None:
        rng, (long, _) = self.rng, self.extent(wall)
        along, a = rng.uniform(0.6 - long, long - 0.6), rng.uniform(0.4, 0.5)
        opening = Solid(
            Kind.HOLLOW, (0, 0, self.tall / 2), (long + 0.2, 0.1, self.tall / 2), stuff,
            hole_center_m=(along, 0, 1.0 - self.tall / 2), hole_half_m=(a, 0.12, 1.01),
        )  # fmt: skip
        self.add(self.at_wall(Thing([opening], (long, 0.1), 0), wall, 0, -0.2))
        self.on_wall[wall].append((along, a + 0.1))
        away = rng.uniform(1.2, 3.0)
        beyond = Thing(
            [
                box((0, 0, self.tall / 2), (long + 2, 0.1, self.tall / 2), paint(rng)),
                box((0, -0.5 * away, -0.12), (long + 2, 0.5 * away, 0.1), flooring(rng)),
            ],
            (long, 0.1), 0,
        )  # fmt: skip
        self.add(self.at_wall(beyond, wall, 0, -away))
        x, y = self.spot(wall, along, 0.4)
        self.taken.append((x, y, 0.5, 0.5))

    def door(self, wall: int) -> None:
        """Put a door somewhere into a wall."""
        rng, (long, _) = self.rng, self.extent(wall)
        along = rng.uniform(0.55 - long, long - 0.55)
        a, stuff, frame, steel = (
            rng.uniform(0.38, 0.45),
            lacquer_or(rng),
            lacquer_or(rng),
            metal(rng),
        )
        parts = [box((0, 0.004, 1.0), (a, 0.012, 1.0), stuff)]
        parts += [box((x, 0, 1.02), (0.035, 0.018, 1.02), frame) for x in (-a - 0.035, a + 0.035)]
        parts.append(box((0, 0, 2.02), (a, 0.018, 0.02), frame))
        if rng.random() < 0.5:
            parts += [box((0, -0.01, z), (0.7 * a, 0.008, 0.32), stuff) for z in (0.55, 1.45)]
        parts.append(box((a - 0.12, -0.055, 1.02), (0.06, 0.008, 0.01), steel))
        parts.append(box((a - 0.07, -0.03, 1.02), (0.01, 0.03, 0.01), steel))
        self.add(self.at_wall(Thing(parts, (a, 0.018), 2), wall, along))
        self.on_wall[wall].append((along, a + 0.1))
        x, y = self.spot(wall, along, 0.4)
        self.taken.append((x, y, 0.5, 0.5))

    # -------------------------------------------------------------------------------- models

    def pick(
        self, role: str, otherwise: Callable[[random.Random], Thing], greatest_m: float = 9.0
    ) -> Thing:
        """Return a model that serves as something, where there is one; else a made thing."""
        if self.assets is not None and self.rng.random() < 0.8:
            asset = self.assets.draw(self.rng, role, greatest_m)
            if asset is not None:
                return model_thing(self.rng, asset)
        return otherwise(self.rng)

    def surfaced(self, stuff: Material, share: float, *kinds: str) -> Material:
        """Return a material that sometimes has a photographed surface, of one of some kinds."""
        if self.assets is None or self.rng.random() > share:
            return stuff
        rng = self.rng
        fitting = [
            asset.name
            for asset in self.assets.roles.get('surface', ())
            if any(kind in asset.name for kind in kinds)
        ]
        if not fitting:
            return stuff
        tone = rng.uniform(0.45, 1.05)
        tint = (
            tone * rng.uniform(0.85, 1),
            tone * rng.uniform(0.9, 1),
            tone * rng.uniform(0.8, 1),
        )
        period = rng.uniform(0.8, 2.5)
        return stuff._replace(
            picture=rng.choice(fitting), palette=(tint,) * 3, period_m=(period, period)
        )

    def furnish(self) -> None:
        """Hang, lay and stand models about."""
        rng, assets = self.rng, self.assets
        if assets is None:
            return
        for _ in range(rng.randint(0, 4)):
            asset = assets.draw(rng, 'hung')
            if asset is not None and asset.elevation_m + asset.size_m[2] < self.tall - 0.05:
                self.back_to_wall(model_thing(rng, asset), 6, asset.elevation_m)
        asset = assets.draw(rng, 'rug')
        if asset is not None and rng.random() < 0.4:
            rug = model_thing(rng, asset)
            x, y = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)
            yaw = rng.choice((0.0, math.pi / 2))
            self.add(placed(rug, x, y, 0.002, yaw))
        most = 0.3 if self.scene.name == 'corridor' else 1.0
        for _ in range(round(rng.uniform(0.1, most) * self.floor_m2)):
            role = rng.choices(
                ('standing', 'storage', 'chair', 'plant', 'table', 'floor lamp', 'sofa'),
                (4, 3, 2, 2, 1, 1, 1),
            )[0]
            asset = assets.draw(rng, role)
            if asset is None:
                continue
            found = model_thing(rng, asset)
            if rng.random() < 0.7:
                self._furnish_wall(asset, found)
            else:
                self._furnish_floor(asset, found)

    def _furnish_wall(self, asset: Asset, found: Thing) -> None:
        at = self.back_to_wall(found)
        if at is not None and asset.top_m > 0.3 and found.height_m < 1.5:
            x, y = self.spot(at[0], at[1], found.half_m[1] + 0.018)
            self._cover(found, x, y, at[0] * math.pi / 2)

    def _furnish_floor(self, asset: Asset, found: Thing) -> None:
        place = self.stand(found, 10)
        if place is not None and asset.top_m > 0.3 and found.height_m < 1.5:
            self._cover(found, *place)

    def _cover(self, below: Thing, x: float, y: float, yaw_rad: float) -> None:
        a, b = below.half_m
        self.litter(x, y, below.height_m, (0.75 * a, 0.75 * b), yaw_rad, self.rng.randint(0, 6))
        self.focus(x, y, below.height_m, min(a, b))

    # ------------------------------------------------------------------------------- placing

    def is_free(self, x: float, y: float, a: float, b: float) -> bool:
        """Return whether a rectangle of the floor is free and within the room."""
        if abs(x) + a > self.half[0] or abs(y) + b > self.half[1]:
            return False
        return all(abs(x - u) >= a + c or abs(y - v) >= b + d for u, v, c, d in self.taken)

    def stand(
        self, thing: Thing, tries: int = 12, yaw_rad: float | None = None
    ) -> tuple[float, float, float] | None:
        """Put a thing somewhere on the floor; return x, y and yaw, or None if it does not fit."""
        rng = self.rng
        for _ in range(tries):
            yaw = rng.uniform(-math.pi, math.pi) if yaw_rad is None else yaw_rad
            a, b = footprint(thing, yaw)
            x, y = (
                rng.uniform(-self.half[0], self.half[0]),
                rng.uniform(-self.half[1], self.half[1]),
            )
            if self.is_free(x, y, a, b):
                self.taken.append((x, y, a, b))
                self.add(placed(thing, x, y, 0, yaw))
                return x, y, yaw
        return None

    def back_to_wall(
        self, thing: Thing, tries: int = 12, z: float = 0.0
    ) -> tuple[int, float] | None:
        """Put a thing with its back to a wall; return the wall and the place along it."""
        rng = self.rng
        for _ in range(tries):
            wall = rng.randrange(4)
            long, _ = self.extent(wall)
            if thing.half_m[0] > long - 0.02:
                continue
            along = rng.uniform(thing.half_m[0] + 0.01 - long, long - thing.half_m[0] - 0.01)
            if (z > 0 or thing.height_m > 0.5) and any(
                abs(along - place) < half + thing.half_m[0] for place, half in self.on_wall[wall]
            ):
                continue
            x, y = self.spot(wall, along, thing.half_m[1] + 0.02)
            a, b = footprint(thing, wall * math.pi / 2)
            if z > 0 or self.is_free(x, y, a, b):
                self.on_wall[wall].append((along, thing.half_m[0]))
                if z == 0:
                    self.taken.append((x, y, a, b))
                self.add(self.at_wall(thing, wall, along, 0.018, z))
                return wall, along
        return None

    def litter(
        self,
        x: float,
        y: float,
        z: float,
        half: tuple[float, float],
        yaw_rad: float,
        count: int,
        make: Callable[[random.Random], Thing] = clutter,
        room_m: float = 10.0,
    ) -> None:
        """Stand things on a surface, and some on others, none within another.

        Args:
            x: Middle of the surface, metres.
            y: The same.
            z: The same.
            half: Its half extents.
            yaw_rad: Its direction.
            count: How many things to try.
            make: What makes one.
            room_m: Height above the surface that is free.
        """
        rng, c, s = self.rng, math.cos(yaw_rad), math.sin(yaw_rad)
        standing: list[Rectangle] = []
        for _ in range(count):
            thing = self.pick('small', make, 2 * min(half)) if make is clutter else make(rng)
            top = 0.0
            for _ in range(10):
                yaw = rng.uniform(-math.pi, math.pi) if rng.random() < 0.5 else rng.gauss(0, 0.2)
                a, b = footprint(thing, yaw)
                if a > half[0] or b > half[1]:
                    continue
                if thing.height_m > room_m:
                    break
                u, v = rng.uniform(a - half[0], half[0] - a), rng.uniform(b - half[1], half[1] - b)
                if all(abs(u - p) >= a + q or abs(v - r) >= b + w for p, r, q, w in standing):
                    standing.append((u, v, a, b))
                    self.add(
                        placed(thing, x + c * u - s * v, y + s * u + c * v, z + top, yaw_rad + yaw)
                    )
                    self._pile(
                        thing, x + c * u - s * v, y + s * u + c * v, z, yaw_rad + yaw, room_m
                    )
                    break

    def _pile(
        self, below: Thing, x: float, y: float, z: float, yaw_rad: float, room_m: float
    ) -> None:
        """Perhaps stand a smaller thing on a thing, and on that."""
        rng, top = self.rng, below.height_m
        while below.flat and rng.random() < 0.45:
            above = self.pick('small', clutter, 0.2)
            yaw = rng.gauss(0, 0.3)
            a, b = footprint(above, yaw)
            reach = 0.75 if below.height_m > 0.02 and len(below.solids) > 1 else 0.95
            if (
                a > reach * below.half_m[0]
                or b > reach * below.half_m[1]
                or top + above.height_m > room_m
            ):
                break
            yaw_rad += yaw
            self.add(placed(above, x, y, z + top, yaw_rad))
            top += above.height_m
            below = above

    def focus(self, x: float, y: float, z: float, radius: float) -> None:
        """Remember a place worth looking at."""
        self.scene.focus_m.append(((x, y, z), radius))

    # -------------------------------------------------------------------------------- finish

    def decorate(self) -> None:
        """Hang pictures, mirrors, boards; lay rugs; let people stand about."""
        rng = self.rng
        for _ in range(rng.randint(0, 4)):
            a, b = rng.uniform(0.12, 0.5), rng.uniform(0.12, 0.4)
            frame = lacquer_or(rng)
            inner = printed(rng, max(a, b))
            if rng.random() < 0.15:
                inner = Material(
                    ((0.8,) * 3,) * 3, 0, specular=0.7, shininess=500, ir_reflectance=0.02
                )
            picture = Thing(
                [
                    box((0, 0, b), (a, 0.012, b), frame),
                    box((0, -0.0125, b), (a * 0.9, 0.001, b * 0.88), inner),
                ],
                (a, 0.0135),
                2 * b,
            )
            self.back_to_wall(picture, 6, rng.uniform(1.0, max(1.05, self.tall - 2 * b - 0.1)))
        if rng.random() < 0.14:
            a, b = rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.7)
            silver = Material(
                ((0.1, 0.1, 0.1),) * 3,
                0,
                specular=0.9,
                shininess=900,
                ir_reflectance=0.02,
                mirror=0.95,
            )
            glass = Thing(
                [
                    box((0, 0.004, b), (a + 0.02, 0.01, b + 0.02), lacquer_or(rng)),
                    box((0, -0.004, b), (a, 0.004, b), silver),
                ],
                (a + 0.02, 0.014),
                2 * b,
            )
            self.back_to_wall(glass, 10, rng.uniform(0.3, max(0.35, self.tall - 2 * b - 0.15)))
        if rng.random() < 0.35:
            a, b = rng.uniform(0.4, 1.2), rng.uniform(0.4, 0.9)
            x, y = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)
            if a + abs(x) < self.half[0] and b + abs(y) < self.half[1]:
                self.add([box((x, y, 0.003), (a, b, 0.003), fabric(rng))])
        if rng.random() < 0.25:
            self.stand(self.pick('person', person))
        for _ in range(rng.randint(0, 5)):
            make = rng.choice((bag, ball, carton, cylinder_bin, plant, books, floor_lamp))
            self.stand(make(rng), 6)

    def finish(self) -> None:
        """Decorate, then light."""
        self.decorate()
        self.furnish()
        rng, scene = self.rng, self.scene
        warm = rng.gauss(0, 0.12)
        tint = (1 + warm, 1.0, 1 - warm)

        def light(position: Vector, power: float, shift: float = 0.0) -> Lamp:
            r, g, b = tint
            return Lamp(position, (power * (r + shift), power * g, power * (b - shift)))

        a, b = self.half
        above = (
            rng.uniform(-0.6, 0.6) * a,
            rng.uniform(-0.6, 0.6) * b,
            self.tall - rng.uniform(0.1, 0.4),
        )
        power = math.exp(rng.uniform(math.log(0.3), math.log(4)))
        scene.lamps = [light(above, power)]
        if rng.random() < 0.5:
            side = (rng.choice((-0.9, 0.9)) * a, rng.uniform(-0.8, 0.8) * b, rng.uniform(1.2, 2.2))
            scene.lamps.append(light(side, power * rng.uniform(0.1, 0.7), rng.gauss(0, 0.15)))
        if rng.random() < 0.3 and scene.focus_m:
            (x, y, z), _ = rng.choice(scene.focus_m)
            near = (
                x + rng.gauss(0, 0.3),
                y + rng.gauss(0, 0.3),
                min(z + rng.uniform(0.5, 1.0), self.tall - 0.1),
            )
            scene.lamps.append(light(near, power * rng.uniform(0.05, 0.25), 0.1))
        while len(scene.lamps) < 3:
            scene.lamps.append(Lamp((0, 0, 1), (0, 0, 0)))
        glow = math.exp(rng.uniform(math.log(0.1), math.log(0.6)))
        floor = color(rng, 0.4)
        below = [glow * (0.35 + 0.4 * c) for c in floor]
        scene.ambient = (
            (glow * tint[0], glow * tint[1], glow * tint[2]),
            (below[0], below[1], below[2]),
        )
        day = rng.random() < 0.7
        scene.sky = (2.0, 2.2, 2.5) if day else (0.02, 0.02, 0.04)
        if self.assets is not None:
            self._daylight(day)

    def _daylight(self, day: bool) -> None:
        """Make the sky of some brightness, and let the sun shine through a window."""
        rng, scene = self.rng, self.scene
        if not day or not self.windows:
            return
        bright = math.exp(rng.uniform(math.log(0.3), math.log(2)))
        r, g, b = (bright * part for part in scene.sky)
        scene.sky = (r, g, b)
        for _, middle, half in self.windows:
            power = 0.7 * half
            scene.lamps.append(Lamp(middle, (power * r, power * g, power * b), half))
        if rng.random() < 0.5:
            wall, _, _ = rng.choice(self.windows)
            angle = (wall + 1) * math.pi / 2 + rng.uniform(-0.9, 0.9)
            height, away = rng.uniform(0.3, 1.0), 60.0
            power = bright * rng.uniform(1.5, 6) * away**2
            position = (
                away * math.cos(angle) * math.cos(height),
                away * math.sin(angle) * math.cos(height),
                away * math.sin(height),
            )
            scene.lamps.append(Lamp(position, (power, 0.93 * power, 0.8 * power), 0.3))


# --------------------------------------------------------------------------------------- layouts


def _stand_table(room: _Room, half: tuple[float, float], height_m: float, count: int) -> None:
    rng = room.rng
    thing = room.pick('table', lambda source: table(source, half, height_m), 2.4)
    height_m = thing.height_m
    at = room.back_to_wall(thing, 6) if rng.random() < 0.45 else None
    if at is not None:
        (x, y), yaw = room.spot(at[0], at[1], thing.half_m[1] + 0.018), at[0] * math.pi / 2
    else:
        place = room.stand(thing, 25, rng.choice((0.0, math.pi / 2, rng.uniform(-3, 3))))
        if place is None:
            return
        x, y, yaw = place
    a, b = thing.half_m
    whole = thing.solids[0].kind is Kind.BOX
    inside = (a - 0.01, b - 0.01) if whole else (0.7 * a, 0.7 * b)
    room.litter(x, y, height_m, inside, yaw, count)
    room.focus(x, y, height_m, min(a, b))
    for _ in range(rng.choice((0, 0, 1, 2))):
        side = rng.uniform(-0.5, 0.5) * a
        seat = room.pick('chair', chair)
        off = b + seat.half_m[1] + rng.uniform(0.0, 0.3)
        c, s = math.cos(yaw), math.sin(yaw)
        sx, sy = x + c * side + s * off, y + s * side - c * off
        turn = yaw + math.pi + rng.gauss(0, 0.3)
        p, q = footprint(seat, turn)
        if room.is_free(sx, sy, p, q):
            room.taken.append((sx, sy, p, q))
            room.add(placed(seat, sx, sy, 0, turn))


def _tabletop(room: _Room) -> None:
    rng = room.rng
    half = (rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.5))
    _stand_table(room, half, rng.uniform(0.45, 0.95), rng.randint(8, 34))
    if rng.random() < 0.5:
        _fill_shelf(room)


def _office(room: _Room) -> None:
    rng = room.rng
    for _ in range(rng.randint(1, 3)):
        half = (rng.uniform(0.5, 0.9), rng.uniform(0.3, 0.45))
        _stand_table(room, half, rng.uniform(0.68, 0.78), rng.randint(5, 16))
    _fill_shelf(room)
    _stand_cabinet(room)


def _living(room: _Room) -> None:
    rng = room.rng
    seat = room.pick('sofa', sofa)
    if room.back_to_wall(seat) is None:
        room.stand(seat)
    half = (rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.4))
    _stand_table(room, half, rng.uniform(0.35, 0.5), rng.randint(3, 10))
    if rng.random() < 0.6:
        _fill_shelf(room)
    _stand_cabinet(room)
    for _ in range(rng.randint(0, 2)):
        room.stand(rng.choice((chair, sofa, plant, floor_lamp))(rng))


def _kitchen(room: _Room) -> None:
    rng = room.rng
    wall = rng.randrange(4)
    long, _ = room.extent(wall)
    a, b, h = min(rng.uniform(0.8, 2.0), long - 0.02), 0.3, rng.uniform(0.84, 0.92)
    unit = cabinet(rng, (a, b, h / 2))
    stone = lacquer_or(rng)
    unit.solids.append(box((0, 0, h + 0.015), (a, b + 0.03, 0.015), stone))
    along = rng.uniform(a - long, long - a)
    room.add(room.at_wall(unit, wall, along, 0.018))
    x, y = room.spot(wall, along, 0.35)
    p, q = footprint(unit, wall * math.pi / 2)
    room.taken.append((x, y, p, q + 0.03 if wall % 2 == 0 else q))
    upper = rng.random() < 0.6 and not room.on_wall[wall]
    bottom = h + rng.uniform(0.45, 0.6)
    room.litter(
        x,
        y,
        h + 0.03,
        (a - 0.02, b - 0.05),
        wall * math.pi / 2,
        rng.randint(6, 18),
        room_m=bottom - h - 0.05 if upper else 9,
    )
    room.focus(x, y, h + 0.03, b)
    if upper and bottom + 0.75 < room.tall:
        hung = cabinet(rng, (a * rng.uniform(0.4, 1), 0.17, 0.35))
        room.add(room.at_wall(hung, wall, along, 0.0, bottom))
    room.on_wall[wall].append((along, a))
    if rng.random() < 0.5:
        room.back_to_wall(cabinet(rng, (0.3, 0.3, rng.uniform(0.7, 1.0))))
    if rng.random() < 0.5:
        _stand_table(room, (rng.uniform(0.35, 0.6), 0.35), 0.74, rng.randint(3, 10))


def _bedroom(room: _Room) -> None:
    rng = room.rng
    thing = room.pick('bed', bed)
    at = room.back_to_wall(thing, 20)
    if at is not None:
        x, y = room.spot(at[0], at[1], thing.half_m[1])
        room.focus(x, y, 0.5, 0.6)
    _stand_cabinet(room)
    _stand_table(
        room,
        (rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.3)),
        rng.uniform(0.4, 0.7),
        rng.randint(2, 8),
    )
    if rng.random() < 0.4:
        _fill_shelf(room)


def _storage(room: _Room) -> None:
    rng = room.rng
    for _ in range(rng.randint(1, 3)):
        _fill_shelf(room)
    for _ in range(rng.randint(0, 4)):
        a, b, c = (rng.uniform(0.1, 0.3) for _ in range(3))
        room.stand(Thing([box((0, 0, c), (a, b, c), printed(rng, a))], (a, b), 2 * c, True))
    x, y = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4)
    room.litter(x, y, 0, (0.5, 0.5), rng.random(), rng.randint(0, 14)) if room.is_free(
        x, y, 0.7, 0.7
    ) else None
    room.focus(x, y, 0, 0.5)
    room.taken.append((x, y, 0.5, 0.5))


def _bare(room: _Room) -> None:
    rng = room.rng
    for _ in range(rng.randint(0, 3)):
        room.stand(rng.choice((chair, carton, cylinder_bin, plant, floor_lamp))(rng))


def _corridor(room: _Room) -> None:
    rng = room.rng
    for wall in range(4):
        if rng.random() < 0.6:
            room.door(wall)
    if rng.random() < 0.3:
        _stand_cabinet(room)
    room.focus(0, rng.uniform(-0.8, 0.8) * room.half[1], 0, 0.5)


def _hall(room: _Room) -> None:
    rng = room.rng
    half = (rng.uniform(0.4, 1.0), rng.uniform(0.3, 0.6))
    _stand_table(room, half, rng.uniform(0.4, 1.0), rng.randint(0, 12))
    room.stand(room.pick(*rng.choice((('chair', chair), ('sofa', sofa), ('storage', carton)))))
    if rng.random() < 0.4:
        _stand_cabinet(room)


def _stand_cabinet(room: _Room) -> None:
    rng = room.rng
    half = (rng.uniform(0.3, 0.8), rng.uniform(0.18, 0.3), rng.uniform(0.3, 1.0))
    thing = room.pick('storage', lambda source: cabinet(source, half))
    at = room.back_to_wall(thing)
    if at is not None and thing.height_m < 1.4 and thing.flat:
        x, y = room.spot(at[0], at[1], thing.half_m[1] + 0.018)
        room.litter(
            x,
            y,
            thing.height_m,
            (thing.half_m[0] - 0.01, thing.half_m[1] - 0.06),
            at[0] * math.pi / 2,
            rng.randint(0, 8),
        )
        room.focus(x, y, thing.height_m, half[1])


def _fill_shelf(room: _Room) -> None:
    rng = room.rng
    thing, boards = shelf(rng, rng.uniform(0.5, 1.2), rng.uniform(0.7, min(2.1, room.tall - 0.2)))
    at = room.back_to_wall(thing)
    if at is None:
        return
    x, y = room.spot(at[0], at[1], thing.half_m[1] + 0.018)
    yaw = at[0] * math.pi / 2
    for (_, _, z), half, free in boards:
        if rng.random() < 0.35:
            _book_row(room, x, y, z, half, yaw, free)
        else:
            room.litter(x, y, z, half, yaw, rng.randint(0, 6), room_m=free)
    room.focus(x, y, rng.choice(boards)[0][2] + 0.1, 0.25)


def _book_row(
    room: _Room, x: float, y: float, z: float, half: tuple[float, float], yaw: float, free: float
) -> None:
    """Stand books side by side."""
    rng, c, s = room.rng, math.cos(yaw), math.sin(yaw)
    place, end = -half[0], rng.uniform(-0.2, 1.0) * half[0]
    while place < end:
        thick, deep = rng.uniform(0.006, 0.025), rng.uniform(0.6, 0.9) * half[1]
        tall = min(rng.uniform(0.08, 0.14), free / 2 - 0.005)
        if tall < 0.05:
            return
        u, v = place + thick, 0.2 * half[1] - half[1] + deep
        book = Thing(
            [box((0, 0, tall), (thick, deep, tall), printed(rng, tall))], (thick, deep), 0
        )
        room.add(placed(book, x + c * u - s * v, y + s * u + c * v, z, yaw))
        place += 2 * thick + rng.choice((0.0005, 0.0005, 0.0005, 0.01))
