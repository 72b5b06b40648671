package example

/** A file of the model's folder, loaded. */
interface Model : AutoCloseable {
    /**
     * Runs one row.
     *
     * @param ids Ids of its tokens.
     * @param types 0 for the first text, 1 for the second; a model without token types ignores them.
     * @return Logits of each item: one item for a text, one for each token of a token classifier, the starts and the ends
     *   of a question answering model, or the vector of a sentence encoder.
     */
    fun items(ids: LongArray, types: LongArray): List<FloatArray>
}

/** Numbers as rows of a width. */
fun rows(numbers: FloatArray, width: Int): List<FloatArray> =
    (0 until numbers.size / width).map { numbers.copyOfRange(it * width, (it + 1) * width) }
