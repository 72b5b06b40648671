package example

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import java.io.File
import java.nio.LongBuffer

/**
 * An .onnx or .ort file in ONNX Runtime.
 *
 * @param file The file; of one with a fixed length, rows are padded to it.
 * @param threads Threads within an operator: as many as the phone has fast cores, or fewer.
 * @param padding Id of the token that fills rows up.
 */
class OnnxModel(file: File, threads: Int, private val padding: Long) : Model {
    private val environment = OrtEnvironment.getEnvironment()
    private val session = OrtSession.SessionOptions().use { options ->
        options.setIntraOpNumThreads(threads)
        // Threads sleep between calls; spinning ones take the cores of the rest of the app, and the battery.
        options.addConfigEntry("session.intra_op.allow_spinning", "0")
        environment.createSession(file.path, options)
    }
    private val length = (session.inputInfo.getValue("input_ids").info as TensorInfo).shape[1].toInt() // -1: any

    override fun items(ids: LongArray, types: LongArray): List<FloatArray> {
        val size = if (length > 0) length else ids.size
        require(ids.size <= size) { "a row has ${ids.size} tokens, and the file takes $size: cut the text" }
        val values = mapOf(
            "input_ids" to LongArray(size) { ids.getOrElse(it) { padding } },
            "attention_mask" to LongArray(size) { if (it < ids.size) 1 else 0 },
            "token_type_ids" to LongArray(size) { types.getOrElse(it) { 0 } },
        )
        val feeds = session.inputNames.associateWith { tensor(values.getValue(it)) }
        try {
            return session.run(feeds).use { outputs ->
                OUTPUTS.filter { it in session.outputNames }.flatMap { unpadded(it, outputs[it].get() as OnnxTensor, ids.size) }
            }
        } finally {
            feeds.values.forEach { it.close() }
        }
    }

    override fun close() = session.close()

    private fun tensor(values: LongArray) =
        OnnxTensor.createTensor(environment, LongBuffer.wrap(values), longArrayOf(1, values.size.toLong()))

    private fun unpadded(name: String, output: OnnxTensor, tokens: Int): List<FloatArray> {
        val shape = output.info.shape
        val numbers = FloatArray(output.floatBuffer.remaining()).also { output.floatBuffer.get(it) }
        val found = rows(numbers, shape.last().toInt())
        if (shape.size == 3) return found.take(tokens)
        return if (name in SPANS) listOf(numbers.copyOf(tokens)) else found
    }

    private companion object {
        val SPANS = listOf("start_logits", "end_logits")
        val OUTPUTS = listOf("logits") + SPANS + "sentence_embedding"
    }
}
