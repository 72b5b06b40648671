package example

import kotlin.math.sqrt
import org.json.JSONArray

/** What a check has found: a line for each row, and whether all is as it was recorded. */
class Checked(val lines: List<String>, val summary: String, val passed: Boolean)

/** Files of a fixed length have the answers of the file that they were made of. */
private val FIXED_LENGTH = Regex("""_\d+\.onnx$""")

/**
 * Compares a model's answers, and a tokenizer's tokens, with those that were recorded when the model was made:
 * `verification.json` of its folder.
 *
 * @param folder The model's folder.
 * @param file The file whose recorded answers are compared, such as `onnx/model_quantized.onnx`.
 * @param model That file, loaded.
 */
fun check(folder: ModelFolder, file: String, model: Model): Checked {
    val recorded = folder.json("verification.json")
    require(recorded.getInt("schema_version") == 3) { "verification.json: schema_version is not 3" }
    val answers = recorded.getJSONObject("answers")
    val of = requireNotNull(answers.optJSONObject(file.replace(FIXED_LENGTH, ".onnx"))) {
        "verification.json has no answers of $file, only of ${answers.keySet()}"
    }
    val vectors = recorded.getString("task") == "sentence-similarity"
    val texts = recorded.optJSONArray("texts")
    val tokenizer = texts?.let { folder.tokenizer() }
    val rows = recorded.getJSONArray("rows")
    var agreeing = 0
    var tokenized = 0
    val lines = (0 until rows.length()).map { index ->
        val ids = longs(rows.getJSONObject(index).getJSONArray("input_ids"))
        val types = rows.getJSONObject(index).optJSONArray("token_type_ids")?.let(::longs) ?: LongArray(ids.size)
        val items = model.items(ids, types)
        val choices = of.getJSONArray("choices").getJSONArray(index)
        val logits = of.getJSONArray("logits").getJSONArray(index)
        val (given, agrees) =
            if (vectors) sameVector(items, choices, logits) else sameLabels(folder.choices, items, choices, logits)
        val text = texts?.getJSONArray(index)
        val same = text == null || tokenizer!!.encode(text.getString(0), second(text)).ids.contentEquals(ids)
        if (agrees) agreeing++
        if (text != null && same) tokenized++
        "row $index: $given" + (if (agrees) "" else ", recorded otherwise") + (if (same) "" else ", other tokens")
    }
    val count = texts?.length() ?: 0
    val summary = "$agreeing of ${lines.size} answers as recorded, $tokenized of $count texts with the recorded tokens"
    return Checked(lines, summary, agreeing == lines.size && tokenized == count)
}

/**
 * The same of the file that holds its tokenizer: labels of the recorded texts.
 *
 * @param folder The model's folder.
 * @param model `onnx/model_with_tokenizer.onnx`, loaded.
 */
fun checkBaked(folder: ModelFolder, model: BakedModel): Checked {
    val recorded = folder.json("verification.json")
    val texts = requireNotNull(recorded.optJSONArray("texts")) { "verification.json has no texts" }
    val of = recorded.getJSONObject("answers").getJSONObject(BakedModel.FILE)
    var agreeing = 0
    val lines = (0 until texts.length()).map { index ->
        val text = texts.getJSONArray(index)
        val given = model.labels(text.getString(0), second(text))
        val choices = longs(of.getJSONArray("choices").getJSONArray(index).getJSONArray(0))
        val names = choices.map { folder.choices.name(it.toInt()) }
        val logits = of.getJSONArray("logits").getJSONArray(index).getJSONArray(0)
        val several = folder.choices.several
        val wanted = if (several) names.filterIndexed { rank, _ -> logits.getDouble(rank) > 0 } else names.take(1)
        val agrees = given.sorted() == wanted.sorted()
        if (agrees) agreeing++
        "row $index: ${given.joinToString(", ")}" + if (agrees) "" else ", recorded otherwise"
    }
    return Checked(lines, "$agreeing of ${lines.size} answers as recorded", agreeing == lines.size)
}

private fun second(text: JSONArray): String? = if (text.length() > 1) text.getString(1) else null

private fun sameLabels(
    names: Choices,
    items: List<FloatArray>,
    choices: JSONArray,
    logits: JSONArray,
): Pair<String, Boolean> {
    val given = (0 until choices.length()).map { names.chosen(items[it]) }
    // Of a multi-label model the recorded logits are less the logit of the label's threshold: a label above 0 is given.
    val wanted = given.indices.map { item ->
        val ranked = longs(choices.getJSONArray(item)).map { it.toInt() }
        val above = ranked.filterIndexed { rank, _ -> logits.getJSONArray(item).getDouble(rank) > 0 }
        if (names.several) above.sorted() else ranked.take(1)
    }
    return given.first().joinToString(", ") { names.name(it) } to (given == wanted)
}

private fun sameVector(items: List<FloatArray>, choices: JSONArray, logits: JSONArray): Pair<String, Boolean> {
    val vector = items.first().map { it.toDouble() }
    val dimensions = longs(choices.getJSONArray(0)).withIndex().associate { (rank, dimension) -> dimension to rank }
    val values = logits.getJSONArray(0)
    val wanted = vector.indices.map { dimension -> dimensions[dimension.toLong()]?.let(values::getDouble) ?: 0.0 }
    val cosine = dot(vector, wanted) / sqrt(dot(vector, vector) * dot(wanted, wanted))
    return "cosine %.4f".format(cosine) to (cosine >= SAME_VECTOR)
}

/** Cosine from which a vector is the recorded one. */
private const val SAME_VECTOR = 0.99

private fun dot(one: List<Double>, other: List<Double>) = one.zip(other) { a, b -> a * b }.sum()

private fun longs(values: JSONArray) = LongArray(values.length()) { values.getLong(it) }
