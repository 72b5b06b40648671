package example

import java.text.Normalizer
import java.util.Locale

/**
 * Tokens of a text or a pair of texts, with the special tokens around them.
 *
 * @property ids Ids of the tokens.
 * @property types 0 for the first text, 1 for the second.
 * @property starts Where each token starts in its text, in UTF-16 units; -1 for special tokens.
 * @property ends Where it ends.
 * @property firsts Whether a token is the first one of its word.
 */
class Tokens(
    val ids: LongArray,
    val types: LongArray,
    val starts: IntArray,
    val ends: IntArray,
    val firsts: BooleanArray,
)

/**
 * A BERT tokenizer: `BertNormalizer`, `BertPreTokenizer` and `WordPiece` of a tokenizer.json.
 *
 * Which characters are letters, marks or punctuation is asked of the Java runtime, whose version of Unicode is not the
 * original tokenizer's: characters that are younger than one of them can give other tokens.
 *
 * @property vocabulary Ids by token.
 * @property added Tokens that are found in texts as they are, such as `[SEP]`.
 * @property first The token in front, `[CLS]`.
 * @property last The token behind a text, `[SEP]`.
 * @property unknown The token for words that have none.
 * @property longest Tokens that a row is cut to.
 * @property lowercase Whether letters are made small.
 * @property stripAccents Whether marks are taken off letters.
 * @property cleanText Whether control characters are removed.
 * @property splitChinese Whether each Chinese character is a word.
 * @property longestWord Characters of the longest word that has tokens.
 */
class WordPiece(
    private val vocabulary: Map<String, Int>,
    private val added: Map<String, Int>,
    private val first: String = "[CLS]",
    private val last: String = "[SEP]",
    private val unknown: String = "[UNK]",
    private val longest: Int = Int.MAX_VALUE,
    private val lowercase: Boolean = true,
    private val stripAccents: Boolean = lowercase,
    private val cleanText: Boolean = true,
    private val splitChinese: Boolean = true,
    private val longestWord: Int = 100,
) {
    private class Piece(val id: Int, val start: Int, val end: Int, val first: Boolean)

    /** A character after normalization, and where it was in the text. */
    private class Letter(val code: Int, val start: Int, val end: Int)

    private val special: Regex? =
        added.keys.sortedByDescending { it.length }.joinToString("|", transform = Regex::escape)
            .takeIf { it.isNotEmpty() }?.toRegex()

    /** Tokens of a text, or of a pair, cut to [longest]. */
    fun encode(text: String, pair: String? = null): Tokens {
        val texts = listOfNotNull(text, pair).map { pieces(it) }
        val kept = cut(texts.map { it.size }, longest - 1 - texts.size)
        val all = mutableListOf(0L to special(first))
        for ((index, pieces) in texts.withIndex()) {
            pieces.take(kept[index]).mapTo(all) { index.toLong() to it }
            all += index.toLong() to special(last)
        }
        return Tokens(
            LongArray(all.size) { all[it].second.id.toLong() },
            LongArray(all.size) { all[it].first },
            IntArray(all.size) { all[it].second.start },
            IntArray(all.size) { all[it].second.end },
            BooleanArray(all.size) { all[it].second.first },
        )
    }

    private fun special(token: String) = Piece(id(token), -1, -1, false)

    private fun id(token: String): Int = added[token] ?: vocabulary.getValue(token)

    /** How many tokens of each text are kept: of a pair the longer one is cut first. */
    private fun cut(counts: List<Int>, room: Int): List<Int> {
        if (counts.size == 1) return listOf(minOf(counts[0], room))
        val (one, other) = counts
        val half = if (one <= other) room / 2 else room - room / 2
        return listOf(minOf(one, maxOf(half, room - other)), minOf(other, maxOf(room - half, room - one)))
    }

    private fun pieces(text: String): List<Piece> {
        val found = mutableListOf<Piece>()
        var begin = 0
        for (match in special?.findAll(text).orEmpty()) {
            words(text, begin, match.range.first).forEach { split(it, found) }
            begin = match.range.last + 1
            found += Piece(added.getValue(match.value), match.range.first, begin, true)
        }
        words(text, begin, text.length).forEach { split(it, found) }
        return found
    }

    /** Words of a part of a text: between spaces, and punctuation one by one. */
    private fun words(text: String, begin: Int, end: Int): List<List<Letter>> {
        val words = mutableListOf<MutableList<Letter>>()
        var open = false
        for (letter in normalized(text, begin, end)) {
            when {
                isSpace(letter.code) -> open = false
                isPunctuation(letter.code) -> {
                    words += mutableListOf(letter)
                    open = false
                }
                open -> words.last() += letter
                else -> {
                    words += mutableListOf(letter)
                    open = true
                }
            }
        }
        return words
    }

    private fun normalized(text: String, begin: Int, end: Int): List<Letter> {
        val letters = mutableListOf<Letter>()
        var index = begin
        while (index < end) {
            val code = text.codePointAt(index)
            val next = index + Character.charCount(code)
            if (cleanText && (code == 0 || code == 0xFFFD || isControl(code))) {
                index = next
                continue
            }
            val alone = splitChinese && isChinese(code)
            if (alone) letters += Letter(' '.code, index, index)
            for (changed in changed(code)) letters += Letter(changed, index, next)
            if (alone) letters += Letter(' '.code, next, next)
            index = next
        }
        return letters
    }

    /** A character without its marks, in lower case. */
    private fun changed(code: Int): IntArray {
        var text = String(Character.toChars(code))
        if (stripAccents) {
            val apart = Normalizer.normalize(text, Normalizer.Form.NFD).codePoints()
            val kept = apart.filter { Character.getType(it) != Character.NON_SPACING_MARK.toInt() }.toArray()
            text = String(kept, 0, kept.size)
        }
        if (lowercase) text = text.lowercase(Locale.ROOT)
        return text.codePoints().toArray()
    }

    /** The longest tokens of a word, from left to right; the unknown token if a part has none. */
    private fun split(word: List<Letter>, found: MutableList<Piece>) {
        val unknown = Piece(id(unknown), word.first().start, word.last().end, true)
        if (word.size > longestWord) {
            found += unknown
            return
        }
        val pieces = mutableListOf<Piece>()
        var begin = 0
        while (begin < word.size) {
            val prefix = if (begin == 0) "" else "##"
            val end = (word.size downTo begin + 1).firstOrNull { prefix + string(word, begin, it) in vocabulary }
            if (end == null) {
                found += unknown
                return
            }
            val id = vocabulary.getValue(prefix + string(word, begin, end))
            pieces += Piece(id, word[begin].start, word[end - 1].end, begin == 0)
            begin = end
        }
        found += pieces
    }

    private fun string(word: List<Letter>, begin: Int, end: Int) =
        buildString { for (index in begin until end) appendCodePoint(word[index].code) }

    private companion object {
        fun isControl(code: Int) =
            code != '\t'.code && code != '\n'.code && code != '\r'.code &&
                when (Character.getType(code).toByte()) {
                    Character.CONTROL, Character.FORMAT, Character.PRIVATE_USE, Character.SURROGATE -> true
                    else -> false
                }

        fun isSpace(code: Int) = code in 9..13 || code == 0x85 || Character.isSpaceChar(code)

        fun isPunctuation(code: Int) =
            code in 33..47 || code in 58..64 || code in 91..96 || code in 123..126 ||
                when (Character.getType(code).toByte()) {
                    Character.CONNECTOR_PUNCTUATION, Character.DASH_PUNCTUATION, Character.START_PUNCTUATION,
                    Character.END_PUNCTUATION, Character.INITIAL_QUOTE_PUNCTUATION, Character.FINAL_QUOTE_PUNCTUATION,
                    Character.OTHER_PUNCTUATION,
                    -> true
                    else -> false
                }

        fun isChinese(code: Int) =
            code in 0x4E00..0x9FFF || code in 0x3400..0x4DBF || code in 0x20000..0x2A6DF || code in 0x2A700..0x2B73F ||
                code in 0x2B740..0x2B81F || code in 0x2B920..0x2CEAF || code in 0xF900..0xFAFF || code in 0x2F800..0x2FA1F
    }
}
