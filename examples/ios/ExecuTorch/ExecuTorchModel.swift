import Example
import ExecuTorch
import Foundation

/// `executorch/model.pte`: one row of any length, inputs and outputs by position.
public final class ExecuTorchModel: Model {
    private let module: Module
    private let takesTypes: Bool

    /// - Parameters:
    ///   - file: The file.
    ///   - takesTypes: `takesTypes` of the folder.
    public init(_ file: URL, takesTypes: Bool) throws {
        module = Module(filePath: file.path)
        try module.load("forward")
        self.takesTypes = takesTypes
    }

    public func items(ids: [Int64], types: [Int64]) throws -> [[Float]] {
        let values = [ids, ids.map { _ in 1 }] + (takesTypes ? [types] : [])
        let outputs: [Value] = try module.forward(values.map { Tensor<Int64>($0, shape: [1, $0.count]) })
        let tensors: [Tensor<Float>] = outputs.compactMap { $0.tensor() }
        // A sentence encoder has its vector in front of the tokens' vectors; question answering has starts and ends.
        let used = tensors.count > 1 && tensors[1].shape.count == 2 ? 2 : 1
        return tensors.prefix(used).flatMap { rows($0.scalars(), width: $0.shape.last!) }
    }
}
