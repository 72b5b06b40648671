// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "Example",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [.library(name: "Example", targets: ["Example"])],
    dependencies: [
        .package(url: "https://github.com/microsoft/onnxruntime-swift-package-manager", from: "1.24.2")
    ],
    targets: [
        .target(
            name: "Example",
            dependencies: [.product(name: "onnxruntime", package: "onnxruntime-swift-package-manager")]
        ),
        .executableTarget(name: "check", dependencies: ["Example"]),
    ]
)
