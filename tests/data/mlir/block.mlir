// A pad, a convolution with its batch normalisation and activation, a view, and an addition.
//
// RUN: dfc opt %s | filecheck %s --check-prefix SAME
// RUN: dfc opt %s --passes canonicalise | filecheck %s --check-prefix CANONICAL
// RUN: dfc opt %s --passes canonicalise{pads=false,batch_norms=false} | filecheck %s --check-prefix PARTLY
// RUN: dfc opt %s --passes canonicalise,fuse --print-ir-after-all | filecheck %s --check-prefix EACH
//
// SAME: dfc.graph "block" {
// SAME: dfc.layer "move.pad" "pad"(%x)
// SAME: dfc.layer "conv.conv" "conv"(%p, %w)
// SAME: dfc.layer "eltwise.batch_norm" "norm"(%c, %s, %b, %m, %v)
// SAME: dfc.layer "view.identity" "same"(%r)
//
// The view is gone; pad and normalisation have become part of the convolution, whose bias they need.
// CANONICAL-NOT: dfc.constant "s"
// CANONICAL: %[[N:\w+]] = dfc.layer "conv.conv" "conv"(%x, %w)
// CANONICAL-SAME: I (y = o - 1 to o + 1, x = o - 1 to o + 1)
// CANONICAL-SAME: weights = 148
// CANONICAL-NEXT: %[[R:\w+]] = dfc.layer "eltwise.relu" "relu"(%[[N]])
// CANONICAL-NEXT: dfc.layer "eltwise.add" "add"(%[[R]], %x)
// CANONICAL-NEXT: dfc.output
//
// PARTLY: dfc.layer "move.pad" "pad"
// PARTLY: dfc.layer "eltwise.batch_norm"
// PARTLY-NOT: view.identity
//
// EACH-LABEL: IR dump after canonicalise
// EACH: dfc.layer "eltwise.relu"
// EACH-LABEL: IR dump after fuse
// EACH-NOT: dfc.layer "eltwise.relu"
// EACH: fused = ["relu"]
// EACH: dfc.layer "eltwise.add"
builtin.module {
  dfc.graph "block" {
    %x = dfc.input "x" : tensor<1x4x6x8xi32>
    %w = dfc.constant "w" : tensor<4x4x3x3xi32>
    %s = dfc.constant "s" : tensor<4xi32>
    %b = dfc.constant "b" : tensor<4xi32>
    %m = dfc.constant "m" : tensor<4xi32>
    %v = dfc.constant "v" : tensor<4xi32>
    %p = dfc.layer "move.pad" "pad"(%x) {reads = [#dfc.operand<I (y = o - 1, x = o - 1)>], writes = ["p"], nest = #dfc.nest<G = 4, OY = 8, OX = 10>, origin = [["Pad", "pad"]]} : (tensor<1x4x6x8xi32>) -> tensor<1x4x8x10xi32>
    %c = dfc.layer "conv.conv" "conv"(%p, %w) {reads = [#dfc.operand<I (y = o to o + 2, x = o to o + 2)>, #dfc.operand<const W>], writes = ["c"], nest = #dfc.nest<K = 4, C = 4, OY = 6, OX = 8, FY = 3, FX = 3>, macs = 6912 : i64, weights = 144 : i64, origin = [["Conv", "conv"]]} : (tensor<1x4x8x10xi32>, tensor<4x4x3x3xi32>) -> tensor<1x4x6x8xi32>
    %n = dfc.layer "eltwise.batch_norm" "norm"(%c, %s, %b, %m, %v) {reads = [#dfc.operand<I>, #dfc.operand<const W () () () ()>], writes = ["n"], nest = #dfc.nest<G = 4, OY = 6, OX = 8>, weights = 16 : i64, origin = [["BatchNormalization", "norm"]]} : (tensor<1x4x6x8xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>, tensor<4xi32>) -> tensor<1x4x6x8xi32>
    %r = dfc.layer "eltwise.relu" "relu"(%n) {reads = [#dfc.operand<I>], writes = ["r"], nest = #dfc.nest<G = 4, OY = 6, OX = 8>, origin = [["Relu", "relu"]]} : (tensor<1x4x6x8xi32>) -> tensor<1x4x6x8xi32>
    %i = dfc.layer "view.identity" "same"(%r) {reads = [#dfc.operand<I>], writes = ["i"], nest = #dfc.nest<G = 4, OY = 6, OX = 8>, origin = [["Identity", "same"]]} : (tensor<1x4x6x8xi32>) -> tensor<1x4x6x8xi32>
    %y = dfc.layer "eltwise.add" "add"(%i, %x) {reads = [#dfc.operand<I>, #dfc.operand<I>], writes = ["y"], nest = #dfc.nest<G = 4, OY = 6, OX = 8>, origin = [["Add", "add"]]} : (tensor<1x4x6x8xi32>, tensor<1x4x6x8xi32>) -> tensor<1x4x6x8xi32>
    dfc.output %y : tensor<1x4x6x8xi32>
  }
}
