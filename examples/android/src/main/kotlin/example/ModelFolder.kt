package example

import java.io.File
import org.json.JSONObject

/** The folder that `compress run` leaves, `artifacts/NAME/model`, or the files of it that the app has copied. */
class ModelFolder(private val folder: File) {
    private val config = json("config.json")

    /** Id of the token that fills rows of a fixed length. */
    val padding: Long = config.optLong("pad_token_id", 0)

    /** Whether the model takes `token_type_ids`. */
    val takesTypes: Boolean = config.getString("model_type") != "distilbert"

    /** Names of the choices, and how they are chosen. */
    val choices: Choices = choices()

    /** A file, such as `onnx/model_quantized.onnx`. */
    fun file(name: String): File = File(folder, name)

    /** A parsed JSON file. */
    fun json(name: String): JSONObject = JSONObject(file(name).readText())

    /**
     * The tokenizer.
     *
     * @throws IllegalArgumentException It is not one of BERT's.
     */
    fun tokenizer(): WordPiece {
        val parts = json("tokenizer.json")
        val model = parts.getJSONObject("model")
        val normalizer = parts.optJSONObject("normalizer")
        val kinds = listOf(model, normalizer, parts.optJSONObject("pre_tokenizer")).map { it?.optString("type") }
        require(kinds == listOf("WordPiece", "BertNormalizer", "BertPreTokenizer")) {
            "tokenizer.json has $kinds, and this example reads WordPiece with BertNormalizer and BertPreTokenizer"
        }
        require(model.optString("continuing_subword_prefix", "##") == "##") { "tokenizer.json: the prefix is not ##" }
        val vocabulary = model.getJSONObject("vocab")
        val added = parts.getJSONArray("added_tokens")
        val truncation = parts.optJSONObject("truncation")
        val right = truncation == null || truncation.optString("direction", "Right") == "Right"
        require(right) { "tokenizer.json: texts are cut on the left" }
        val names = json("tokenizer_config.json")
        val lowercase = normalizer!!.optBoolean("lowercase", true)
        return WordPiece(
            vocabulary = vocabulary.keys().asSequence().associateWith { vocabulary.getInt(it) },
            added = (0 until added.length()).map(added::getJSONObject)
                .associate { it.getString("content") to it.getInt("id") },
            first = names.getString("cls_token"),
            last = names.getString("sep_token"),
            unknown = model.getString("unk_token"),
            longest = truncation?.getInt("max_length") ?: Int.MAX_VALUE,
            lowercase = lowercase,
            stripAccents = if (normalizer.isNull("strip_accents")) lowercase else normalizer.getBoolean("strip_accents"),
            cleanText = normalizer.optBoolean("clean_text", true),
            splitChinese = normalizer.optBoolean("handle_chinese_chars", true),
            longestWord = model.optInt("max_input_chars_per_word", 100),
        )
    }

    private fun choices(): Choices {
        val names = config.optJSONObject("id2label") ?: JSONObject()
        val thresholds = config.optJSONObject("label_thresholds") ?: JSONObject()
        return Choices(
            names = (0 until names.length()).map { names.getString(it.toString()) },
            several = config.optString("problem_type") == "multi_label_classification",
            thresholds = thresholds.keys().asSequence().associateWith { thresholds.getDouble(it) },
        )
    }
}
