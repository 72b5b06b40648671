#if canImport(CoreML)
    import CoreML
    import Foundation

    /// `coreml/model.mlpackage`: one row of any length.
    public final class CoreMLModel: Model {
        private let model: MLModel

        /// - Parameters:
        ///   - compiled: The `.mlmodelc` that Xcode makes of a package in the project, in the app's bundle; elsewhere the
        ///     result of `MLModel.compileModel(at:)`.
        ///   - units: Where it may run.
        public init(compiled: URL, units: MLComputeUnits = .all) throws {
            let configuration = MLModelConfiguration()
            configuration.computeUnits = units
            model = try MLModel(contentsOf: compiled, configuration: configuration)
        }

        public func items(ids: [Int64], types: [Int64]) throws -> [[Float]] {
            let values = ["input_ids": ids, "attention_mask": ids.map { _ in 1 }, "token_type_ids": types]
            let names = model.modelDescription.inputDescriptionsByName.keys
            let inputs = Dictionary(uniqueKeysWithValues: names.map { ($0, row(values[$0]!)) })
            let found = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: inputs))
            return outputNames.compactMap { found.featureValue(for: $0)?.multiArrayValue }.flatMap { output in
                rows((0..<output.count).map { output[$0].floatValue }, width: output.shape.last!.intValue)
            }
        }

        private func row(_ values: [Int64]) -> MLMultiArray {
            MLMultiArray(MLShapedArray(scalars: values.map(Int32.init), shape: [1, values.count]))
        }
    }
#endif
