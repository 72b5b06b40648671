// Prints the tokens that examples/android gives: a line of ids for each text on the standard input, which are lines of
// UTF-8 in base64. Arguments: a file with the vocabulary, one token a line; the most tokens; "lower" or "cased".
package example

import java.io.File
import java.util.Base64

fun main(arguments: Array<String>) {
    val (file, longest, case) = arguments
    val vocabulary = File(file).readText().split("\n").withIndex().associate { (id, token) -> token to id }
    val special = vocabulary.filterKeys { it.startsWith("[") && it.endsWith("]") && it.length > 2 }
    val tokenizer = WordPiece(vocabulary, special, longest = longest.toInt(), lowercase = case == "lower")
    for (line in generateSequence(::readLine)) {
        val texts = line.split(" ").map { String(Base64.getDecoder().decode(it), Charsets.UTF_8) }
        val tokens = tokenizer.encode(texts[0], texts.getOrNull(1))
        println((tokens.ids + tokens.types).joinToString(" "))
    }
}
