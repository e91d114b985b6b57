"""A pymarkdown plug-in: a link to a file of the repository leads to a file. Addresses and anchors are not looked at."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from pymarkdown.plugin_manager.plugin_details import PluginDetails, PluginDetailsV3
from pymarkdown.plugin_manager.plugin_scan_context import PluginScanContext
from pymarkdown.plugin_manager.rule_plugin import RulePlugin
from pymarkdown.tokens.markdown_token import MarkdownToken


class Links(RulePlugin):
    """Reports each relative link that leads nowhere."""

    def get_details(self) -> PluginDetails:
        """What the plug-in is called, for configurations and messages."""
        return PluginDetailsV3(
            plugin_id="PRO002",
            plugin_name="relative-links",
            plugin_description="Link to a file that does not exist",
            plugin_version="1.0.0",
            plugin_enabled_by_default=True,
            plugin_url=None,
            plugin_configuration=None,
        )

    def next_token(self, context: PluginScanContext, token: MarkdownToken) -> None:
        """Judges a link."""
        if not token.is_inline_link:
            return
        target = urlsplit(token.active_link_uri)
        if target.scheme or target.netloc or not target.path:
            return
        if not (Path(context.scan_file).parent / unquote(target.path)).exists():
            self.report_next_token_error(context, token, extra_error_information=target.path)
