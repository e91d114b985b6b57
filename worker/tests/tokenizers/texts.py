"""Texts that tokenizers disagree about, the same ones for the same seed."""

import random
import unicodedata

FIXED = [
    "",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\n\n\n",
    "\t\n",
    "\r\n",
    "\r\n\r\n  \r\n",
    " \n \n\n  x",
    "Hello world",
    " Hello world",
    "Hello, World!",
    " Hello, world!\n",
    "  leading and trailing  ",
    "The quick brown fox jumps over the lazy dog.",
    "I'm sure they'll say it's what we've been told, that he'd go and you're right: don't.",
    "I'M SURE THEY'LL SAY IT'S WHAT WE'VE BEEN TOLD, HE'D GO AND YOU'RE RIGHT: DON'T.",
    "'s 't 're 've 'm 'll 'd 'S 'T 'Re 'vE 'x ''s '' ' ' s",
    "rock'n'roll o'clock l'heure d\u2019accord it\u2019s",
    "0 1 12 123 1234 12345 123456 1234567 12345678901234567890",
    "3.14159 1,234,567.89 -0x1F 1e-10 2024-02-30T12:34:56Z +49 (0)30 123456",
    "\u0661\u0662\u0663 \u2167 \u00bd \u00b2 \u4e00\u4e8c\u4e09 \uff11\uff12\uff13",
    "a1b2c3 x86_64 utf8 h264 1st 2nd",
    "fn main() {\n    println!(\"{:?}\", vec![1, 2, 3]);\n}\n",
    "def f(x, *args, **kwargs):\n\treturn {k: v for k, v in x.items() if v != None}\n",
    "#include <stdio.h>\r\nint main(void) { return a[i]->b + ~c | d ^ e & 0xFF; }\r\n",
    "<div class=\"a\">&nbsp;</div><!-- x --> SELECT * FROM t WHERE a='b';--",
    "https://example.org/a/b?c=d&e=%20#f user@example.org C:\\Windows\\System32",
    "$100 + 50% = \u20ac150; ^_^ ~/.config/`x` |a| <b> \u00a75",
    "!!!!!! ...... ------ ====== ////// \\\\\\\\ ((((( )))) []{}<>",
    "\u00c4pfel, \u00fcber Stra\u00dfe; \u00e7a, d\u00e9j\u00e0, na\u00efve, \u0142\u00f3d\u017a, \u0130stanbul",
    "e\u0301 u\u0308 n\u0303 a\u0323\u0302 \u0915\u094d\u0937\u093f Z\u0351\u036b\u0343A\u0321L\u0328G\u0322O\u0321",
    "\u043d\u0435\u0449\u043e \u043d\u0430 \u0411\u044a\u043b\u0433\u0430\u0440\u0441\u043a\u0438",
    "\u03b1\u03b2\u03b3 \u0391\u0392\u0393 \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\u6211\u60f3\u5728apple\u5de5\u4f5c1314151\u5929\uff5e \u4eca\u65e5\u306f\u3001\u4e16\u754c\uff01\u30ab\u30bf\u30ab\u30ca \u534a\u89d2\uff76\uff85",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4. \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u1780\u17b6\u1793\u17cb\u178f\u17c2 \u10d2\u10d0\u10db\u10d0\u10e0\u10ef\u10dd\u10d1\u10d0",
    "\u3000\u3000\u5168\u89d2\u3000\u7a7a\u767d \u00a0nbsp\u00a0 \u2003em\u2003 \u200bzero\u200b \ufeffbom \u0085nel\u0085 \u2028ls\u2028",
    "\U0001f999 \U0001f680 (normal) \U0001f636\u200d\U0001f32b\ufe0f \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea \u2705 1\ufe0f\u20e3",
    "\u2581 \u2581\u2581 a\u2581b \u0120 \u010a <0x0A> <0xFF> <s> </s> <unk> <pad> [PAD] <mask>",
    "<|endoftext|> <|im_start|>user\nhi<|im_end|>\n<|eot_id|><|end|> <end_of_turn> [INST] x [/INST]",
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>",
    "\x00 \x01\x02 \x1b[31mred\x1b[0m \x7f \x1c\x1d\x1e\x1f \ufffd \ufffe \uffff \ue000 \U000f0000",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "camelCaseWord XMLHttpRequest iOS McDonald \u01c5 \u01c5a A\u01c5 \u02b0a \u00aa \u00ba \u4e2dA\u4e2da",
    "function in London, a function of London\nfunction x(function) London",
    "x\n y\n  z\n\n\n w \n\n \t\n v\r\r\nu",
]

WORDS = (
    "the of and to in is that it was for on are as with his they at be this from have or by one had not but what all were when we "
    "there can an your which their said if do will each about how up out them then she many some so these would other into has more "
    "Paris London function return import class self None True False null undefined error 2024 1000 00 007"
).split()

CODE = "abcxyzABCXYZ_0123456789(){}[]<>;:,.=+-*/%&|^!~?\"'`@#$\\ \t\n"

RANGES = [
    (0x20, 0x7E),
    (0xA0, 0x24F),
    (0x250, 0x36F),
    (0x370, 0x52F),
    (0x590, 0x6FF),
    (0x900, 0xDFF),
    (0xE00, 0xEFF),
    (0x1780, 0x17FF),
    (0x1E00, 0x1FFF),
    (0x2000, 0x206F),
    (0x2070, 0x2BFF),
    (0x2E80, 0x303F),
    (0x3040, 0x30FF),
    (0x3400, 0x34FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0xFE00, 0xFFEF),
    (0x10000, 0x103FF),
    (0x1D400, 0x1D7FF),
    (0x1F000, 0x1FAFF),
    (0x20000, 0x2A6DF),
]


def assigned(code):
    """Newer versions of Unicode know more characters, and nobody agrees about those."""
    return unicodedata.category(chr(code)) not in ("Cn", "Cs")


def letter(random, low, high):
    while True:
        code = random.randint(low, high)
        if assigned(code):
            return chr(code)


def blank(random):
    return random.choice(["", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", " \n", "\r\n", "\u00a0", "\u3000", "\u2003"])


def mixed(random):
    def part():
        low, high = random.choice(RANGES)
        return "".join(letter(random, low, high) for _ in range(random.randint(1, 6)))

    return "".join(part() + blank(random) for _ in range(random.randint(1, 8)))


def anything(random):
    return "".join(letter(random, 0, 0x2FFFF) for _ in range(random.randint(1, 20)))


def words(random):
    def word():
        word = random.choice(WORDS)
        case = random.choice([str, str, str, str.upper, str.title])
        end = random.choice(["", "", "", "", "", ",", ".", "!", "?!", "'s", "'LL", "\u2019s", "...", ":", ")"])
        return random.choice(["", "", "", "(", "\"", "'"]) + case(word) + end

    return "".join(word() + (blank(random) or " ") for _ in range(random.randint(1, 20)))


def code(random):
    lines = ["    " * random.randint(0, 3) + "".join(random.choice(CODE) for _ in range(random.randint(0, 30)))]
    return random.choice(["\n", "\r\n", "\n\t"]).join(lines * random.randint(1, 3))


def numbers(random):
    def number():
        digits = "".join(random.choice("0123456789") for _ in range(random.randint(1, 12)))
        return random.choice(["", "-", "$", "0x", "v"]) + digits + random.choice(["", "", ".5", ",000", "%", "px", "th", "\u00b2"])

    return random.choice([" ", ", ", "", "\n"]).join(number() for _ in range(random.randint(1, 8)))


def blanks(random):
    run = "".join(random.choice(" \t\n\r  \n\u00a0\u3000\u2003\u0085\x0b\x0c") for _ in range(random.randint(1, 12)))
    plain = random.choice([" ", "\n", "\t", "\r\n"]) * random.randint(1, 40)
    return random.choice(["", "x", "1", "."]) + random.choice([run, plain]) + random.choice(["", "x", "1", ".", "\u4e2d", "'s"])


def emoji(random):
    joiners = ["", "", "\u200d", "\ufe0f", "\U0001f3fd", " "]
    return "".join(letter(random, 0x1F300, 0x1FAFF) + random.choice(joiners) for _ in range(random.randint(1, 8)))


def repeated(random):
    part = random.choice([mixed, words, numbers, blanks, emoji])(random)[:4]
    return part * random.randint(1, 30)


def specials(random, names):
    def part():
        name = random.choice(names)
        broken = random.choice([name, name, name, name[:-1], name[1:], name + name[-1:], name[0:1] + name])
        return random.choice(["", "", " ", "\n", "x", "  \n"]) + broken

    return "".join(part() + random.choice(["", "", words(random)[:12], blank(random)]) for _ in range(random.randint(1, 6)))


def texts(count, names, seed=20261121):
    """The fixed texts, and `count` further ones. `names` are those of the vocabulary's special tokens."""
    source = random.Random(seed)
    makers = [mixed, anything, words, code, numbers, blanks, emoji, repeated, lambda random: specials(random, names)]
    return FIXED + [makers[number % len(makers)](source) for number in range(count)]
