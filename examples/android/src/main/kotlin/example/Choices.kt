package example

import kotlin.math.exp

/** A label, and how probable it is. */
class Label(val name: String, val probability: Double)

/** A part of a text, and what it is. */
class Span(val text: String, val start: Int, val end: Int, val name: String)

/**
 * Reads answers off logits.
 *
 * @property names `id2label` of config.json.
 * @property several Whether a text may have several labels, each decided on its own.
 * @property thresholds `label_thresholds` of config.json: probabilities above which a label is given; 0.5 for others.
 */
class Choices(private val names: List<String>, val several: Boolean, private val thresholds: Map<String, Double>) {
    /** Name of a choice. */
    fun name(choice: Int): String = names.getOrElse(choice) { choice.toString() }

    /** The likeliest choice, or of a multi-label model those above their thresholds. */
    fun chosen(logits: FloatArray): List<Int> =
        if (several) {
            logits.indices.filter { sigmoid(logits[it]) > (thresholds[name(it)] ?: 0.5) }
        } else {
            listOf(logits.indices.maxBy { logits[it] })
        }

    /** Labels of a text: the only item of its answer. */
    fun labels(logits: FloatArray): List<Label> {
        val highest = logits.max()
        val sum = logits.sumOf { exp((it - highest).toDouble()) }
        fun probability(logit: Float) = if (several) sigmoid(logit) else exp((logit - highest).toDouble()) / sum
        return chosen(logits).map { Label(name(it), probability(logits[it])) }
    }

    /** The tag of each word, of its first token: a token classifier's answer has an item for each token. */
    fun tags(text: String, tokens: Tokens, items: List<FloatArray>): List<Span> =
        items.indices.filter { tokens.firsts[it] }.map { first ->
            val others = (first + 1 until items.size).takeWhile { tokens.starts[it] >= 0 && !tokens.firsts[it] }
            val last = others.lastOrNull() ?: first
            val (start, end) = tokens.starts[first] to tokens.ends[last]
            Span(text.substring(start, end), start, end, name(chosen(items[first]).single()))
        }

    /**
     * The likeliest span of the second text of a pair, of the starts and ends of a question answering model.
     *
     * @return Null if "no answer" (the first token) is likelier, which only models trained on such questions mean.
     */
    fun span(context: String, tokens: Tokens, items: List<FloatArray>): Span? {
        val (starts, ends) = items
        val inside = tokens.ids.indices.filter { tokens.types[it] == 1L && tokens.starts[it] >= 0 }
        val pairs = inside.flatMap { start ->
            inside.filter { it >= start && it < start + LONGEST_ANSWER }.map { start to it }
        }
        val (start, end) = pairs.maxByOrNull { (start, end) -> starts[start] + ends[end] } ?: return null
        if (starts[0] + ends[0] > starts[start] + ends[end]) return null
        val (begin, stop) = tokens.starts[start] to tokens.ends[end]
        return Span(context.substring(begin, stop), begin, stop, "answer")
    }

    private fun sigmoid(logit: Float): Double = 1 / (1 + exp(-logit.toDouble()))

    private companion object {
        const val LONGEST_ANSWER = 30
    }
}
