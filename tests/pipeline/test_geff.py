"""Tracks as graphs. Here and not with the other exports: Zarr's event loop opens sockets."""

import geff
import networkx as nx
import pytest
from geff.validate.data import ValidationConfig

import nanostream as ns
from nanostream.config import Config
from nanostream.records import TrackerSettings
from nanostream.results.exports import export
from nanostream.results.store import Store
from tests.factories import a_result, squares

EVERYTHING = ValidationConfig(graph=True, lineage=True, tracklet=True)


@pytest.mark.parametrize("pixel_size_nm", [0.25, None])
def test_a_graph_of_tracks_is_valid_and_has_an_edge_for_each_link(tmp_path, pixel_size_nm):
    known = {"pixel_size_nm": pixel_size_nm, "stream": TrackerSettings()}
    with Store(tmp_path / "session", Config()) as store:
        for file in ("a.mrc", "day/b.mrc"):
            for z in range(3):
                # The second particle is missed once: its edge goes over the gap.
                corners = [(5, 5 + z), (20, 30)] if z != 1 else [(5, 5 + z)]
                labels = squares(*corners, side=8, shape=(40, 50))
                store.commit(a_result(labels, f"{file}#{z}", known=known))
    session = ns.open_session(tmp_path / "session")
    for _ in range(2):  # a second export replaces the first
        written = export(session, "geff", tmp_path)
    assert written == [tmp_path / "a.mrc.geff", tmp_path / "day" / "b.mrc.geff"]
    geff.validate_structure(written[1])  # what `geff validate` does
    graph, metadata = geff.read(written[1], data_validation=EVERYTHING)
    assert nx.is_directed(graph)
    assert [axis.scale for axis in metadata.axes] == [None, pixel_size_nm, pixel_size_nm]
    expected = session.tracks.query("file == 'day/b.mrc'")
    nodes = sorted((n["t"], n["label"], n["y"], n["x"]) for _, n in graph.nodes(data=True))
    assert nodes == list(expected[["frame", "label", "y", "x"]].itertuples(index=False, name=None))
    ends = [[graph.nodes[node] for node in edge] for edge in graph.edges]
    steps = [[end[key] for end in edge for key in ("track", "t")] for edge in ends]
    assert sorted(steps) == [[3, 0, 3, 1], [3, 1, 3, 2], [4, 0, 4, 2]]
    assert not list(tmp_path.rglob("*.part"))
