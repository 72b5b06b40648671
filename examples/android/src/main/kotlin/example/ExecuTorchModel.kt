package example

import java.io.File
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor

/**
 * `executorch/model.pte`: one row of any length, inputs and outputs by position.
 *
 * @param file The file.
 * @param threads Threads of XNNPACK.
 * @param takesTypes Whether the model takes token types.
 */
class ExecuTorchModel(file: File, threads: Int, private val takesTypes: Boolean) : Model {
    private val module = Module.load(file.path, Module.LOAD_MODE_MMAP, threads)

    override fun items(ids: LongArray, types: LongArray): List<FloatArray> {
        val values = listOfNotNull(ids, LongArray(ids.size) { 1 }, types.takeIf { takesTypes })
        val inputs = values.map { EValue.from(Tensor.fromBlob(it, longArrayOf(1, it.size.toLong()))) }
        val outputs = module.forward(*inputs.toTypedArray()).map { it.toTensor() }
        // A sentence encoder has its vector in front of the tokens' vectors; question answering has starts and ends.
        val used = if (outputs.size > 1 && outputs[1].shape().size == 2) outputs.take(2) else outputs.take(1)
        return used.flatMap { rows(it.dataAsFloatArray, it.shape().last().toInt()) }
    }

    override fun close() = module.destroy()
}
