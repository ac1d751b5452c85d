"""Rule 6 without a tar: how Links resolves links from the facts about each layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations

import pytest

from streamerge.errors import FormatError
from streamerge.rules.links import Held, Links, Origin


@dataclass
class Facts:
    """A layer as Links sees it."""

    index: int
    hidden: dict[bytes, int] = field(default_factory=dict)
    hidden_links: dict[bytes, bytes] = field(default_factory=dict)
    device_whiteouts: set[bytes] = field(default_factory=set)
    shown: set[bytes] = field(default_factory=set)
    directories: set[bytes] = field(default_factory=set)
    hides: set[bytes] = field(default_factory=set)
    made_whiteouts: list[bytes] = field(default_factory=list)

    def make_whiteout(self, path: bytes) -> None:
        self.made_whiteouts.append(path)

    def shows(self, path: bytes) -> bool:
        return path in self.shown

    def has_directory(self, path: bytes) -> bool:
        return path in self.directories

    def hides_older(self, path: bytes) -> bool:
        return path in self.hides


def held(links: Links, facts: Facts, *pairs: tuple[bytes, bytes]) -> list[Held]:
    """Hold links in this order, as the layer shows them."""
    made = [Held(path, target, facts.index, 512 * n) for n, (path, target) in enumerate(pairs)]
    facts.shown |= {path for path, _ in pairs}
    for link in made:
        links.hold(link, facts)
    return made


def outcome(links: Links) -> tuple[dict[Origin, bytes], dict[bytes, bytes]]:
    promoted, remaining = links.finish()
    return promoted, {link.path: target for link, target in remaining}


class TestWithinALayer:
    def test_to_what_shows(self) -> None:
        links, facts = Links(), Facts(1, shown={b"t"})
        held(links, facts, (b"l", b"t"), (b"m", b"l"))
        links.resolve(facts)
        assert not links.has_unresolved
        assert outcome(links) == ({}, {b"l": b"t", b"m": b"t"})

    def test_to_what_is_hidden(self) -> None:
        links, facts = Links(), Facts(1, hidden={b"t": 99})
        held(links, facts, (b"l", b"t"), (b"m", b"t"))
        links.resolve(facts)
        assert links.bound_in(1) == {Origin(1, 99)}
        assert links.bound_in(0) == set()
        assert outcome(links) == ({Origin(1, 99): b"l"}, {b"m": b"l"})

    def test_to_what_will_be_hidden(self) -> None:
        links, facts = Links(), Facts(1)
        held(links, facts, (b"l", b"t"))
        facts.hidden[b"t"] = 99
        links.resolve(facts)
        assert outcome(links) == ({Origin(1, 99): b"l"}, {})

    @pytest.mark.parametrize("order", sorted(permutations(range(3))), ids=str)
    def test_chains_in_any_order(self, order: tuple[int, ...]) -> None:
        links, facts = Links(), Facts(1, hidden={b"t": 99})
        pairs = [(b"a", b"t"), (b"b", b"a"), (b"c", b"b")]
        held(links, facts, *(pairs[n] for n in order))
        links.resolve(facts)
        first = pairs[order[0]][0]
        assert outcome(links) == ({Origin(1, 99): first}, {path: first for path, _ in pairs if path != first})

    def test_through_hidden_links(self) -> None:
        links, facts = Links(), Facts(1, shown={b"t"}, hidden_links={b"h": b"g", b"g": b"t"})
        held(links, facts, (b"l", b"h"))
        links.resolve(facts)
        assert outcome(links) == ({}, {b"l": b"t"})

    def test_to_the_instance_before(self) -> None:
        """A path twice: the link means the file that was there when the link was listed."""
        links, facts = Links(), Facts(1, hidden={b"t": 10})
        held(links, facts, (b"k", b"t"))
        facts.hidden[b"t"] = 20
        held(links, facts, (b"l", b"t"))
        links.resolve(facts)
        assert outcome(links)[0] == {Origin(1, 10): b"k", Origin(1, 20): b"l"}

    @pytest.mark.parametrize(
        "pairs",
        [[(b"a", b"a")], [(b"a", b"b"), (b"b", b"a")], [(b"a", b"b"), (b"b", b"c"), (b"c", b"b")]],
    )
    def test_circles(self, pairs: list[tuple[bytes, bytes]]) -> None:
        links, facts = Links(), Facts(1)
        held(links, facts, *pairs)
        with pytest.raises(FormatError, match="only name each other") as caught:
            links.resolve(facts)
        assert (caught.value.path, caught.value.index) == (b"a", 1)

    def test_circles_of_hidden_links(self) -> None:
        links, facts = Links(), Facts(1, hidden_links={b"g": b"h", b"h": b"g"})
        held(links, facts, (b"a", b"g"))
        with pytest.raises(FormatError, match="only name each other"):
            links.resolve(facts)

    def test_a_directory(self) -> None:
        links, facts = Links(), Facts(1, directories={b"d"})
        held(links, facts, (b"a", b"d"))
        with pytest.raises(FormatError, match="is a directory"):
            links.resolve(facts)

    def test_a_device_makes_it_a_whiteout(self) -> None:
        links, facts = Links(), Facts(1, device_whiteouts={b"w"})
        held(links, facts, (b"a", b"w"))
        links.resolve(facts)
        assert facts.made_whiteouts == [b"a"]
        assert outcome(links) == ({}, {})


class TestAcrossLayers:
    def unresolved(self, target: bytes = b"t") -> Links:
        links, facts = Links(), Facts(5)
        held(links, facts, (b"l", target), (b"m", target))
        links.resolve(facts)
        assert links.has_unresolved
        return links

    def test_shown_by_an_older_one(self) -> None:
        links = self.unresolved()
        links.resolve(Facts(4))
        links.resolve(Facts(3, shown={b"t"}))
        assert not links.has_unresolved
        assert outcome(links) == ({}, {b"l": b"t", b"m": b"t"})

    def test_hidden_in_an_older_one(self) -> None:
        links = self.unresolved()
        links.resolve(Facts(4, hidden={b"t": 7}))
        assert links.bound_in(4) == {Origin(4, 7)}
        assert outcome(links) == ({Origin(4, 7): b"l"}, {b"m": b"l"})

    def test_through_links_of_an_older_one(self) -> None:
        links = self.unresolved()
        links.resolve(Facts(4, hidden_links={b"t": b"u"}))
        assert links.has_unresolved
        links.resolve(Facts(3, shown={b"t"}, hidden={b"u": 7}))
        assert outcome(links) == ({Origin(3, 7): b"l"}, {b"m": b"l"})

    def test_the_layer_that_turns_it_does_not_hide_the_new_target(self) -> None:
        """The hidden link t -> u is in layer 4. Its whiteout of u hides older ones, but its own links still see u."""
        links = self.unresolved()
        links.resolve(Facts(4, hidden_links={b"t": b"u"}, hides={b"u"}))
        links.resolve(Facts(3, shown={b"u"}))
        assert outcome(links) == ({}, {b"l": b"u", b"m": b"u"})

    def test_hidden_by_a_layer_between(self) -> None:
        links = self.unresolved()
        with pytest.raises(FormatError, match="'t', is in no layer that it could see") as caught:
            links.resolve(Facts(4, hides={b"t"}))
        assert (caught.value.path, caught.value.index) == (b"l", 5)

    def test_its_own_layer_does_not_hide_it(self) -> None:
        links, facts = Links(), Facts(5, hides={b"t"})
        held(links, facts, (b"l", b"t"))
        links.resolve(facts)
        links.resolve(Facts(4, shown={b"t"}))
        assert outcome(links) == ({}, {b"l": b"t"})

    def test_entry_and_whiteout_in_the_layer_between(self) -> None:
        links = self.unresolved()
        links.resolve(Facts(4, shown={b"t"}, hides={b"t"}))
        assert outcome(links)[1] == {b"l": b"t", b"m": b"t"}

    def test_an_older_directory(self) -> None:
        links = self.unresolved()
        with pytest.raises(FormatError, match="is a directory") as caught:
            links.resolve(Facts(4, directories={b"t"}))
        assert caught.value.index == 5

    def test_an_older_device_is_nothing_to_link_to(self) -> None:
        links = self.unresolved()
        with pytest.raises(FormatError, match="in no layer"):
            links.resolve(Facts(4, device_whiteouts={b"t"}, hides={b"t"}))

    def test_nowhere(self) -> None:
        links = self.unresolved()
        links.resolve(Facts(4))
        with pytest.raises(FormatError, match="in no layer"):
            links.finish()

    def test_a_link_that_is_held_in_an_older_layer(self) -> None:
        links = self.unresolved()
        facts = Facts(4, hidden={b"u": 7})
        held(links, facts, (b"t", b"u"))
        links.resolve(facts)
        assert outcome(links) == ({Origin(4, 7): b"l"}, {b"m": b"l", b"t": b"l"})

    def test_paths_of_a_layer_are_forgotten_when_it_ends(self) -> None:
        links, facts = Links(), Facts(5, hidden={b"x": 3})
        held(links, facts, (b"l", b"x"))
        links.resolve(facts)
        older = Facts(4, hidden={b"l": 8})
        held(links, older, (b"m", b"l"))
        links.resolve(older)
        assert outcome(links)[0] == {Origin(5, 3): b"l", Origin(4, 8): b"m"}


class TestOrder:
    def test_the_newest_layers_first_survivor_is_promoted(self) -> None:
        links = Links()
        newer, older = Facts(2), Facts(1, hidden={b"t": 7})
        held(links, newer, (b"z", b"t"))
        links.resolve(newer)
        held(links, older, (b"a", b"t"))
        links.resolve(older)
        assert outcome(links) == ({Origin(1, 7): b"z"}, {b"a": b"z"})

    def test_nothing_held(self) -> None:
        links = Links()
        links.resolve(Facts(0))
        assert (links.finish(), links.has_unresolved, links.bound_in(0)) == (({}, []), False, set())
