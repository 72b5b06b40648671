import Foundation

/// Tokens of a text or a pair of texts, with the special tokens around them.
public struct Tokens {
    /// Ids of the tokens.
    public var ids: [Int64] = []
    /// 0 for the first text, 1 for the second.
    public var types: [Int64] = []
    /// Where each token is in its text; nil for special tokens.
    public var ranges: [Range<String.Index>?] = []
    /// Whether a token is the first one of its word.
    public var firsts: [Bool] = []
}

/// A BERT tokenizer: `BertNormalizer`, `BertPreTokenizer` and `WordPiece` of a tokenizer.json.
///
/// Which characters are letters, marks or punctuation is asked of Swift, whose version of Unicode is not the original
/// tokenizer's: characters that are younger than one of them can give other tokens.
public struct WordPiece {
    /// What a tokenizer.json and a tokenizer_config.json say.
    public struct Settings {
        /// The token in front.
        public var first = "[CLS]"
        /// The token behind a text.
        public var last = "[SEP]"
        /// The token for words that have none.
        public var unknown = "[UNK]"
        /// Tokens that a row is cut to.
        public var longest = Int.max
        /// Whether letters are made small.
        public var lowercase = true
        /// Whether marks are taken off letters.
        public var stripAccents = true
        /// Whether control characters are removed.
        public var cleanText = true
        /// Whether each Chinese character is a word.
        public var splitChinese = true
        /// Characters of the longest word that has tokens.
        public var longestWord = 100

        public init() {}
    }

    /// Characters by number: Swift takes strings for equal that a vocabulary tells apart, such as é and e with a mark.
    private typealias Code = [UInt32]

    private struct Letter {
        let code: UInt32
        let range: Range<String.Index>
    }

    private struct Piece {
        let id: Int64
        let range: Range<String.Index>?
        let first: Bool
    }

    private let settings: Settings
    private let vocabulary: [Code: Int64]
    private let added: [(token: Code, id: Int64)]

    /// - Parameters:
    ///   - vocabulary: Tokens and their ids.
    ///   - added: Tokens that are found in texts as they are, such as `[SEP]`, and their ids.
    public init(vocabulary: [(String, Int)], added: [(String, Int)], settings: Settings) {
        self.settings = settings
        var known: [Code: Int64] = [:]
        for (token, id) in vocabulary + added { known[Self.code(token)] = Int64(id) }
        self.vocabulary = known
        self.added = added.map { (Self.code($0.0), Int64($0.1)) }.sorted { $0.token.count > $1.token.count }
    }

    /// Tokens of a text, or of a pair, cut to the longest row.
    public func encode(_ text: String, pair: String? = nil) -> Tokens {
        let texts = [text] + (pair.map { [$0] } ?? [])
        let pieces = texts.map(self.pieces)
        let kept = cut(pieces.map(\.count), room: settings.longest - 1 - texts.count)
        var all = [(0, special(settings.first))]
        for (index, found) in pieces.enumerated() {
            all += found.prefix(kept[index]).map { (index, $0) }
            all.append((index, special(settings.last)))
        }
        var tokens = Tokens()
        for (index, piece) in all {
            tokens.ids.append(piece.id)
            tokens.types.append(Int64(index))
            tokens.ranges.append(piece.range)
            tokens.firsts.append(piece.first)
        }
        return tokens
    }

    private static func code(_ text: String) -> Code { text.unicodeScalars.map(\.value) }

    private func special(_ token: String) -> Piece {
        Piece(id: vocabulary[Self.code(token)]!, range: nil, first: false)
    }

    /// How many tokens of each text are kept: of a pair the longer one is cut first.
    private func cut(_ counts: [Int], room: Int) -> [Int] {
        if counts.count == 1 { return [min(counts[0], room)] }
        let half = counts[0] <= counts[1] ? room / 2 : room - room / 2
        return [
            min(counts[0], max(half, room - counts[1])),
            min(counts[1], max(room - half, room - counts[0])),
        ]
    }

    private func pieces(_ text: String) -> [Piece] {
        let scalars = text.unicodeScalars
        let indices = Array(scalars.indices)
        let codes = Self.code(text)
        func range(_ from: Int, _ to: Int) -> Range<String.Index> {
            (from < indices.count ? indices[from] : text.endIndex)..<(to < indices.count ? indices[to] : text.endIndex)
        }
        var found: [Piece] = []
        var begin = 0
        var place = 0
        while place < codes.count {
            if let special = added.first(where: { codes[place...].starts(with: $0.token) }) {
                found += words(text, range(begin, place)).flatMap(split)
                let end = place + special.token.count
                found.append(Piece(id: special.id, range: range(place, end), first: true))
                begin = end
                place = end
            } else {
                place += 1
            }
        }
        return found + words(text, range(begin, codes.count)).flatMap(split)
    }

    /// Words of a part of a text: between spaces, and punctuation one by one.
    private func words(_ text: String, _ part: Range<String.Index>) -> [[Letter]] {
        var words: [[Letter]] = []
        var open = false
        for letter in normalized(text, part) {
            let scalar = Unicode.Scalar(letter.code)!
            if Self.isSpace(scalar) {
                open = false
            } else if Self.isPunctuation(scalar) {
                words.append([letter])
                open = false
            } else if open {
                words[words.count - 1].append(letter)
            } else {
                words.append([letter])
                open = true
            }
        }
        return words
    }

    private func normalized(_ text: String, _ part: Range<String.Index>) -> [Letter] {
        var letters: [Letter] = []
        var index = part.lowerBound
        while index < part.upperBound {
            let scalar = text.unicodeScalars[index]
            let next = text.unicodeScalars.index(after: index)
            defer { index = next }
            if settings.cleanText && (scalar.value == 0 || scalar.value == 0xFFFD || Self.isControl(scalar)) { continue }
            let alone = settings.splitChinese && Self.isChinese(scalar.value)
            if alone { letters.append(Letter(code: 32, range: index..<index)) }
            letters += changed(scalar).map { Letter(code: $0.value, range: index..<next) }
            if alone { letters.append(Letter(code: 32, range: next..<next)) }
        }
        return letters
    }

    /// A character without its marks, in lower case.
    private func changed(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
        var scalars = [scalar]
        if settings.stripAccents {
            scalars = String(scalar).decomposedStringWithCanonicalMapping.unicodeScalars
                .filter { $0.properties.generalCategory != .nonspacingMark }
        }
        return settings.lowercase ? scalars.flatMap { Array($0.properties.lowercaseMapping.unicodeScalars) } : scalars
    }

    /// The longest tokens of a word, from left to right; the unknown token if a part has none.
    private func split(_ word: [Letter]) -> [Piece] {
        let whole = word.first!.range.lowerBound..<word.last!.range.upperBound
        let unknown = [Piece(id: vocabulary[Self.code(settings.unknown)]!, range: whole, first: true)]
        if word.count > settings.longestWord { return unknown }
        var pieces: [Piece] = []
        var begin = 0
        while begin < word.count {
            let prefix: Code = begin == 0 ? [] : [35, 35]  // ##
            var end = word.count
            var id: Int64?
            while end > begin {
                id = vocabulary[prefix + word[begin..<end].map(\.code)]
                if id != nil { break }
                end -= 1
            }
            guard let id else { return unknown }
            let range = word[begin].range.lowerBound..<word[end - 1].range.upperBound
            pieces.append(Piece(id: id, range: range, first: begin == 0))
            begin = end
        }
        return pieces
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        if [9, 10, 13].contains(scalar.value) { return false }
        switch scalar.properties.generalCategory {
        case .control, .format, .privateUse, .surrogate: return true
        default: return false
        }
    }

    private static func isSpace(_ scalar: Unicode.Scalar) -> Bool { scalar.properties.isWhitespace }

    private static func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 33...47, 58...64, 91...96, 123...126: return true
        default: break
        }
        switch scalar.properties.generalCategory {
        case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation, .initialPunctuation,
            .finalPunctuation, .otherPunctuation:
            return true
        default: return false
        }
    }

    private static func isChinese(_ value: UInt32) -> Bool {
        switch value {
        case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F,
            0x2B920...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
            return true
        default: return false
        }
    }
}
