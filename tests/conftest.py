"""No test touches the user's own cache, in this process or in those that it starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFC_CACHE_DIR", str(tmp_path_factory.mktemp("dfc-cache")))
        yield
