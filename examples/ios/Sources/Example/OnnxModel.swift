import Foundation
import OnnxRuntimeBindings

/// An .onnx or .ort file in ONNX Runtime.
public final class OnnxModel: Model {
    private let environment: ORTEnv
    private let session: ORTSession
    private let inputs: [String]
    private let outputs: [String]
    private let length: Int?
    private let padding: Int64

    /// - Parameters:
    ///   - file: The file.
    ///   - threads: Threads within an operator: as many as the phone has fast cores, or fewer.
    ///   - length: Tokens of each row, for a file with a fixed length, such as 64 for `model_64.onnx`.
    ///   - padding: Id of the token that fills rows up.
    public init(_ file: URL, threads: Int = 2, length: Int? = nil, padding: Int64 = 0) throws {
        environment = try ORTEnv(loggingLevel: .warning)
        let options = try ORTSessionOptions()
        try options.setIntraOpNumThreads(Int32(threads))
        // Threads sleep between calls; spinning ones take the cores of the rest of the app, and the battery.
        try options.addConfigEntry(withKey: "session.intra_op.allow_spinning", value: "0")
        session = try ORTSession(env: environment, modelPath: file.path, sessionOptions: options)
        inputs = try session.inputNames()
        outputs = try session.outputNames().filter(outputNames.contains)
        self.length = length
        self.padding = padding
    }

    public func items(ids: [Int64], types: [Int64]) throws -> [[Float]] {
        let size = length ?? ids.count
        guard ids.count <= size else {
            throw FolderError("a row has \(ids.count) tokens, and the file takes \(size): cut the text")
        }
        func filled(_ values: [Int64], _ fill: Int64) -> [Int64] {
            values + Array(repeating: fill, count: size - values.count)
        }
        let values = [
            "input_ids": filled(ids, padding), "attention_mask": filled(ids.map { _ in 1 }, 0),
            "token_type_ids": filled(types, 0),
        ]
        var feeds: [String: ORTValue] = [:]
        for name in inputs { feeds[name] = try tensor(values[name]!) }
        let found = try session.run(withInputs: feeds, outputNames: Set(outputs), runOptions: nil)
        return try outputNames.filter(outputs.contains).flatMap { try unpadded($0, found[$0]!, tokens: ids.count) }
    }

    private func tensor(_ values: [Int64]) throws -> ORTValue {
        let data = values.withUnsafeBytes { NSMutableData(bytes: $0.baseAddress!, length: $0.count) }
        return try ORTValue(tensorData: data, elementType: .int64, shape: [1, NSNumber(value: values.count)])
    }

    private func unpadded(_ name: String, _ output: ORTValue, tokens: Int) throws -> [[Float]] {
        let shape = try output.tensorTypeAndShapeInfo().shape.map(\.intValue)
        let numbers = try (output.tensorData() as Data).withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let found = rows(numbers, width: shape.last!)
        if shape.count == 3 { return Array(found.prefix(tokens)) }
        return ["start_logits", "end_logits"].contains(name) ? [Array(numbers.prefix(tokens))] : found
    }
}
