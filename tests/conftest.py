"""No test touches the user's own cache, in this process or in those that it starts; slow ones are not traced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tracing branches doubles the time of a test, and what runs long in one is loops that quick ones run too."""
    if not config.pluginmanager.hasplugin("pytest_cov"):  # it is what knows the marker
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFC_CACHE_DIR", str(tmp_path_factory.mktemp("dfc-cache")))
        yield
