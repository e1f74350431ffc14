"""The operators that the project has promised, beyond those that the competition's files need."""

LISTED = frozenset(
    """
Abs Acos Acosh And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool Cast CastLike Ceil Celu Clip Compress ConvInteger CumSum DepthToSpace
DequantizeLinear DynamicQuantizeLinear Einsum Elu Erf Exp EyeLike Floor GatherElements GatherND Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool
Greater GreaterOrEqual GridSample GroupNormalization GRU HardSigmoid HardSwish Hardmax Identity If InstanceNormalization IsInf IsNaN LRN LSTM
LayerNormalization Less LessOrEqual Log LogSoftmax Loop Scan LpNormalization LpPool MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min Mish
Mod Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
ReduceMin ReduceProd ReduceSumSquare RMSNormalization Resize RotaryEmbedding Round ScatterElements ScatterND Selu Shrink Sigmoid Sign Size Softplus
Softsign SpaceToDepth Sqrt Squeeze Sum Swish Tan Tanh ThresholdedRelu Tile TopK Trilu Xor SequenceConstruct SequenceAt SequenceInsert
ai.onnx.ml.ZipMap ai.onnx.ml.ArrayFeatureExtractor ai.onnx.ml.Scaler ai.onnx.ml.Normalizer ai.onnx.ml.LinearClassifier ai.onnx.ml.LinearRegressor
Add BatchNormalization Concat Constant ConstantOfShape Conv ConvTranspose Cos Div Dropout Equal Expand Flatten Gather Gemm LeakyRelu MatMul Mul Neg
ReduceMean ReduceSum Relu Reshape Shape Sin Slice Softmax Split Sub Transpose Unsqueeze Upsample Where
""".split()
)
