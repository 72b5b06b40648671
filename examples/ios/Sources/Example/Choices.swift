import Foundation

/// A label, and how probable it is.
public struct Label {
    public let name: String
    public let probability: Double
}

/// A part of a text, and what it is.
public struct Span {
    public let range: Range<String.Index>
    public let name: String
}

/// Reads answers off logits.
public struct Choices {
    /// `id2label` of config.json.
    let names: [String: String]
    /// Whether a text may have several labels, each decided on its own.
    public let several: Bool
    /// `label_thresholds` of config.json: probabilities above which a label is given; 0.5 for others.
    let thresholds: [String: Double]

    private static let longestAnswer = 30

    /// Name of a choice.
    public func name(_ choice: Int) -> String { names[String(choice)] ?? String(choice) }

    /// The likeliest choice, or of a multi-label model those above their thresholds.
    public func chosen(_ logits: [Float]) -> [Int] {
        if several {
            return logits.indices.filter { Self.sigmoid(logits[$0]) > (thresholds[name($0)] ?? 0.5) }
        }
        return [logits.indices.max { logits[$0] < logits[$1] }!]
    }

    /// Labels of a text: the only item of its answer.
    public func labels(_ logits: [Float]) -> [Label] {
        let highest = logits.max()!
        let sum = logits.reduce(0) { $0 + exp(Double($1 - highest)) }
        return chosen(logits).map { choice in
            let alone = Self.sigmoid(logits[choice])
            return Label(name: name(choice), probability: several ? alone : exp(Double(logits[choice] - highest)) / sum)
        }
    }

    /// The tag of each word, of its first token: of the answer of a token classifier, which has an item for each token.
    public func tags(_ tokens: Tokens, _ items: [[Float]]) -> [Span] {
        items.indices.filter { tokens.firsts[$0] }.map { first in
            let inside = items.indices.dropFirst(first + 1).prefix { tokens.ranges[$0] != nil && !tokens.firsts[$0] }
            let end = tokens.ranges[inside.last ?? first]!.upperBound
            return Span(range: tokens.ranges[first]!.lowerBound..<end, name: name(chosen(items[first])[0]))
        }
    }

    /// The likeliest span of the second text of a pair, of the starts and ends of a question answering model.
    ///
    /// Nil if "no answer" (the first token) is likelier, which only models trained on such questions mean.
    public func span(_ tokens: Tokens, _ items: [[Float]]) -> Span? {
        let (starts, ends) = (items[0], items[1])
        let inside = tokens.ids.indices.filter { tokens.types[$0] == 1 && tokens.ranges[$0] != nil }
        var best: (score: Float, start: Int, end: Int)?
        for start in inside {
            for end in inside where start <= end && end < start + Self.longestAnswer {
                let score = starts[start] + ends[end]
                if best == nil || score > best!.score { best = (score, start, end) }
            }
        }
        guard let best, best.score >= starts[0] + ends[0] else { return nil }
        let range = tokens.ranges[best.start]!.lowerBound..<tokens.ranges[best.end]!.upperBound
        return Span(range: range, name: "answer")
    }

    private static func sigmoid(_ logit: Float) -> Double { 1 / (1 + exp(-Double(logit))) }
}
