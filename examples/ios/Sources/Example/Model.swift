/// A file of the model's folder, loaded.
public protocol Model {
    /// Runs one row.
    ///
    /// - Parameters:
    ///   - ids: Ids of its tokens.
    ///   - types: 0 for the first text, 1 for the second; a model without token types ignores them.
    /// - Returns: Logits of each item: one item for a text, one for each token of a token classifier, the starts and the
    ///   ends of a question answering model, or the vector of a sentence encoder.
    func items(ids: [Int64], types: [Int64]) throws -> [[Float]]
}

/// Names of the outputs that are read, in the order of the items.
let outputNames = ["logits", "start_logits", "end_logits", "sentence_embedding"]

/// Numbers as rows of a width.
public func rows(_ numbers: [Float], width: Int) -> [[Float]] {
    stride(from: 0, to: numbers.count, by: width).map { Array(numbers[$0..<$0 + width]) }
}
