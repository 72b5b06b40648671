plugins {
    id("com.android.application") version "8.7.3"
    id("org.jetbrains.kotlin.android") version "2.1.0"
}

android {
    namespace = "example"
    compileSdk = 35
    defaultConfig {
        applicationId = "example.bert"
        minSdk = 24
        targetSdk = 35
    }
    sourceSets["main"].assets.srcDir("assets") // assets/model: the files that docs/android.md lists
    androidResources {
        noCompress += listOf("onnx", "ort", "pte") // as they are, so that they can be mapped
    }
}

kotlin {
    jvmToolchain(17)
}

dependencies {
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.29.0")
    implementation("org.pytorch:executorch-android:1.5.1") // only for executorch/model.pte
}
