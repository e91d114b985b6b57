"""A pymarkdown plug-in: sentences of at most 30 words. It reads paragraphs and list items, not headings, tables or code."""

import re
from typing import List, Optional, cast

from pymarkdown.general.parser_helper import ParserHelper
from pymarkdown.plugin_manager.plugin_details import PluginDetails, PluginDetailsV3, QueryConfigItem
from pymarkdown.plugin_manager.plugin_scan_context import PluginScanContext
from pymarkdown.plugin_manager.rule_plugin import RulePlugin
from pymarkdown.tokens.markdown_token import MarkdownToken
from pymarkdown.tokens.text_markdown_token import TextMarkdownToken

# The space between two sentences: after a full stop, a question mark or an exclamation mark, with closing quotes or
# brackets, and before a character that can start a sentence. A full stop inside "0.1.0" or "llama.cpp" ends nothing.
BETWEEN_SENTENCES = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')\]]))\s+(?=["'(\[]*[A-Z0-9])""")

# A code span and an address count as one word each, and may start a sentence.
PLACEHOLDER = "X"


def sentences(paragraph: str) -> List[str]:
    """The sentences of a paragraph."""
    return BETWEEN_SENTENCES.split(paragraph.strip())


def words(sentence: str) -> int:
    """The number of words. A dash or a slash between spaces is not a word."""
    return sum(any(character.isalnum() for character in word) for word in sentence.split())


class Sentences(RulePlugin):
    """Reports each sentence that has too many words."""

    def __init__(self) -> None:
        super().__init__()
        self.__maximum = 30
        self.__text = ""
        self.__paragraph: Optional[MarkdownToken] = None

    def get_details(self) -> PluginDetails:
        """What the plug-in is called, for configurations and messages."""
        return PluginDetailsV3(
            plugin_id="PRO001",
            plugin_name="sentence-length",
            plugin_description="Sentence length",
            plugin_version="1.0.0",
            plugin_enabled_by_default=True,
            plugin_url=None,
            plugin_configuration="maximum",
        )

    def initialize_from_config(self) -> None:
        """Reads the configuration."""
        self.__maximum = self.plugin_configuration.get_integer_property("maximum", default_value=30)

    def query_config(self) -> List[QueryConfigItem]:
        """What is configured."""
        return [QueryConfigItem("maximum", self.__maximum)]

    def starting_new_file(self) -> None:
        """Starts afresh."""
        self.__paragraph = None

    def next_token(self, context: PluginScanContext, token: MarkdownToken) -> None:
        """Collects the text of a paragraph, and judges it at its end."""
        if token.is_paragraph:
            self.__paragraph, self.__text = token, ""
        elif self.__paragraph is None:
            return
        elif token.is_paragraph_end:
            self.__judge(context, self.__paragraph)
            self.__paragraph = None
        elif token.is_text:
            self.__text += ParserHelper.resolve_all_from_text(cast(TextMarkdownToken, token).token_text)
        elif token.is_inline_code_span or token.is_inline_autolink:
            self.__text += PLACEHOLDER
        elif token.is_inline_hard_break:
            self.__text += "\n"

    def __judge(self, context: PluginScanContext, paragraph: MarkdownToken) -> None:
        end = 0
        for sentence in sentences(self.__text):
            start = self.__text.index(sentence, end)
            end = start + len(sentence)
            count = words(sentence)
            if count > self.__maximum:
                self.report_next_token_error(
                    context,
                    paragraph,
                    line_number_delta=self.__text.count("\n", 0, start),
                    extra_error_information=f"Expected: {self.__maximum} words, Actual: {count} words",
                )
