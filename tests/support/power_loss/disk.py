"""A disk as a program has written it, and what a loss of power may leave of it.

What was synced stays. What was not is kept or lost, each part on its own: the sectors of a write,
the length of a file, and each name of a folder. POSIX promises no more, and file systems differ in
what more they do.
"""

import enum
import os
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from random import Random
from typing import Final

from tests.support.power_loss.recorder import Event, Kind

SECTOR_BYTES: Final = 512
ROOT: Final = 0
VOLATILE: Final = "-shm"
"""The end of the names of SQLite's memory of its journal, which is mapped, and made anew after a
loss of power: it is not recorded."""


class Loss(enum.StrEnum):
    """What becomes of what was not synced."""

    ALL = "all of it is lost"
    CONTENT = "names and lengths are kept, contents are zeros"
    NAMES = "contents are kept, names are lost"
    IN_ORDER = "the first part of it is kept"
    ANY = "any of it is kept, sector by sector"


@dataclass(eq=False)
class File:
    """A file on the disk."""

    content: bytearray = field(default_factory=bytearray)

    def resize(self, length: int, *, grows: bool) -> None:
        """Set its length; with `grows`, never to less."""
        missing = length - len(self.content)
        if missing > 0:
            self.content.extend(bytes(missing))
        elif missing < 0 and not grows:
            del self.content[length:]

    def write(self, position: int, data: bytes) -> None:
        """Write `data`."""
        self.resize(position, grows=True)
        self.content[position : position + len(data)] = data


@dataclass
class Tree:
    """Files by their number, and folders: the numbers of what is in each, by name."""

    files: dict[int, File] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    links: dict[int, str] = field(default_factory=dict)

    def copied(self) -> "Tree":
        """Return a tree that changes without this one."""
        files = {number: File(bytearray(file.content)) for number, file in self.files.items()}
        folders = {number: dict(names) for number, names in self.folders.items()}
        return Tree(files, folders, dict(self.links))

    def write_to(self, folder: Path, number: int = ROOT) -> None:
        """Write all that has a name into a new folder, for its owner alone."""
        folder.mkdir(mode=0o700)
        for name, each in self.folders[number].items():
            path = folder / name
            if each in self.folders:
                self.write_to(path, each)
            elif each in self.links:
                path.symlink_to(self.links[each])
            else:
                path.touch(mode=0o600)
                path.write_bytes(self.files[each].content)

    def paths(self, number: int = ROOT, at: str = "") -> Iterator[tuple[str, bytes | str | None]]:
        """Yield each path, and what is there: bytes, the target of a link, None for a folder."""
        for name, each in self.folders[number].items():
            path = f"{at}{name}"
            if each in self.folders:
                yield path, None
                yield from self.paths(each, f"{path}/")
            elif each in self.links:
                yield path, self.links[each]
            elif not name.endswith(VOLATILE):
                yield path, bytes(self.files[each].content)


@dataclass(eq=False)
class Written:
    """A write to a file, or what is kept of one."""

    number: int
    position: int
    data: bytes

    def apply(self, tree: Tree) -> None:
        """Do it."""
        tree.files.setdefault(self.number, File()).write(self.position, self.data)

    def sectors(self) -> Iterator["Written"]:
        """Yield its part of each sector of the disk."""
        start = 0
        while start < len(self.data):
            position = self.position + start
            stop = start + SECTOR_BYTES - position % SECTOR_BYTES
            yield Written(self.number, position, self.data[start:stop])
            start = stop

    def length_alone(self) -> "Resized":
        """Return what is left of it where its content is not written."""
        return Resized(self.number, self.position + len(self.data), grows=True)


@dataclass(eq=False)
class Resized:
    """A new length of a file."""

    number: int
    length: int
    grows: bool

    def apply(self, tree: Tree) -> None:
        """Do it."""
        tree.files.setdefault(self.number, File()).resize(self.length, grows=self.grows)


@dataclass(eq=False)
class Named:
    """A name that leads to a file or folder, or to nothing any more.

    Parameters
    ----------
    number : int
        The folder.
    name : str
        In it.
    target : int or None
        What it leads to.
    needs : Named, optional
        What it is a part of: the old name of a file is not lost before it has the new one.
    """

    number: int
    name: str
    target: int | None
    needs: "Named | None" = None

    def apply(self, tree: Tree) -> None:
        """Do it."""
        names = tree.folders.setdefault(self.number, {})
        if self.target is None:
            names.pop(self.name, None)
        else:
            names[self.name] = self.target


Effect = Written | Resized | Named


class UnknownChangeError(Exception):
    """The recorder has not seen something that the files show."""


class Disk:
    """The disk of a program, event by event.

    Parameters
    ----------
    root : Path
        The folder that is recorded, as it is before; all in it counts as synced.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.durable = Tree()
        self.pending: list[Effect] = []
        """What was not synced, in its order."""
        self._next = ROOT
        self._numbers: dict[int, int] = {}
        self._read(root, ROOT)
        self.seen = self.durable.copied()
        """What the program sees."""

    def copied(self) -> "Disk":
        """Return one that goes on without this one."""
        other = copy(self)
        other.durable, other.seen = self.durable.copied(), self.seen.copied()
        other.pending, other._numbers = list(self.pending), dict(self._numbers)
        return other

    def take(self, event: Event) -> None:
        """Go on by an event."""
        if event.kind is Kind.SAID:
            return
        if event.kind is Kind.SYNCED:
            self._sync(event.inode)
            return
        for effect in self._effects(event):
            effect.apply(self.seen)
            self.pending.append(effect)

    def after_power_loss(self, loss: Loss, random: Random) -> Tree:
        """Return what may be left now."""
        left = self.durable.copied()
        for effect in _kept(self.pending, loss, random):
            effect.apply(left)
        # A name may be kept of what nothing was written to.
        for number in [each for names in left.folders.values() for each in names.values()]:
            if number in self.seen.folders:
                left.folders.setdefault(number, {})
            elif number not in left.links:
                left.files.setdefault(number, File())
        return left

    def check_complete(self, root: Path) -> None:
        """Compare what was recorded with what is there, in `root`.

        Raises
        ------
        UnknownChangeError
            If something was done that was not recorded.
        """
        recorded, found = dict(self.seen.paths()), dict(Disk(root).seen.paths())
        wrong = sorted(
            each
            for each in recorded.keys() | found.keys()
            if recorded.get(each, "") != found.get(each, "")
        )
        if wrong:
            raise UnknownChangeError(f"not recorded as they are: {', '.join(wrong)}")

    def _read(self, folder: Path, number: int) -> None:
        self._numbers[folder.stat().st_ino] = number
        names = self.durable.folders.setdefault(number, {})
        for path in sorted(folder.iterdir()):
            is_file = path.is_file()
            if not is_file and not path.is_symlink() and not path.is_dir():
                continue  # a socket
            names[path.name] = self._new()
            if path.is_symlink():
                self.durable.links[names[path.name]] = str(path.readlink())
            elif is_file:
                self._numbers[path.stat().st_ino] = names[path.name]
                self.durable.files[names[path.name]] = File(bytearray(path.read_bytes()))
            else:
                self._read(path, names[path.name])

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _sync(self, inode: int) -> None:
        number = self._numbers[inode]
        synced = {id(each) for each in self.pending if each.number == number}
        for effect in self.pending:
            if id(effect) in synced:
                effect.apply(self.durable)
        self.pending = [each for each in self.pending if id(each) not in synced]

    def _effects(self, event: Event) -> Iterable[Effect]:
        match event.kind:
            case Kind.WRITTEN:
                found: Iterable[Effect] = [
                    Written(self._number(event), event.position, event.first)
                ]
            case Kind.RESIZED:
                found = [Resized(self._number(event), event.position, event.flag)]
            case Kind.OPENED:
                found = self._opened(event)
            case Kind.RENAMED:
                found = self._renamed(event)
            case Kind.UNLINKED:
                found = [Named(*self._place(event.first), None)]
            case Kind.LINKED:
                found = [Named(*self._place(event.second), self._found(event.first))]
            case _:
                found = self._made(event)
        return found

    def _number(self, event: Event) -> int:
        if event.inode not in self._numbers:
            raise UnknownChangeError(f"{event.kind.name} of a file that was never created")
        return self._numbers[event.inode]

    def _opened(self, event: Event) -> Iterable[Effect]:
        folder, name = self._place(event.first)
        known = self.seen.folders[folder].get(name)
        if known is None:
            # A number that an earlier file had, which is gone, may be that of a new one.
            known = self._numbers[event.inode] = self._new()
            self.seen.files[known] = File()
            yield Named(folder, name, known)
        elif event.flag and self.seen.files[known].content:
            yield Resized(known, 0, grows=False)

    def _renamed(self, event: Event) -> Iterable[Effect]:
        moved = self._found(event.first)
        replaced = self._found(event.second) if event.flag else None
        there = Named(*self._place(event.second), moved)
        yield there
        yield Named(*self._place(event.first), replaced, needs=there)

    def _made(self, event: Event) -> Iterable[Effect]:
        number = self._numbers[event.inode] = self._new()
        if event.kind is Kind.MADE:
            self.seen.folders[number] = {}
        else:
            self.seen.links[number] = self.durable.links[number] = os.fsdecode(event.second)
        yield Named(*self._place(event.first), number)

    def _place(self, name: bytes) -> tuple[int, str]:
        """Return the folder of a path, by its number, and the name in it."""
        path = PurePosixPath(os.path.normpath(os.fsdecode(name)))
        number = ROOT
        for part in path.parent.relative_to(self.root).parts:
            number = self.seen.folders[number][part]
        return number, path.name

    def _found(self, path: bytes) -> int:
        folder, name = self._place(path)
        return self.seen.folders[folder][name]


def _kept(pending: list[Effect], loss: Loss, random: Random) -> Iterator[Effect]:
    """Yield what is kept of what was not synced."""
    match loss:
        case Loss.ALL:
            return
        case Loss.CONTENT:
            yield from (e.length_alone() if isinstance(e, Written) else e for e in pending)
        case Loss.NAMES:
            yield from (each for each in pending if not isinstance(each, Named))
        case Loss.IN_ORDER:
            yield from pending[: random.randint(0, len(pending))]
        case Loss.ANY:
            yield from _any_of(pending, random)


def _any_of(pending: list[Effect], random: Random) -> Iterator[Effect]:
    lost: set[int] = set()
    for effect in pending:
        if isinstance(effect, Written):
            yield from (each for each in effect.sectors() if random.random() < _KEPT)
        elif random.random() >= _KEPT or (
            isinstance(effect, Named) and effect.needs is not None and id(effect.needs) in lost
        ):
            lost.add(id(effect))
        else:
            yield effect


_KEPT: Final = 0.5
