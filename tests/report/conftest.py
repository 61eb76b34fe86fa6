"""The campaign of the page's tests serves the reports, too."""

from tests.web.conftest import filled  # noqa: F401 - a fixture
