# A runtime of your own, once; then a function on it; then a new version under all of its functions.
aws lambda-core create-runtime --name python-streaming
aws lambda-core create-runtime-version --runtime-name python-streaming --name 1 --image-uri 123456789012.dkr.ecr.us-east-1.amazonaws.com/python-streaming:1
aws lambda-core wait runtime-version-active --runtime-name python-streaming --name 1
aws lambda-core create-runtime-alias --runtime-name python-streaming --name live --runtime-version 1
aws lambda create-function --function-name hello --runtime custom --handler function.handler --role arn:aws:iam::123456789012:role/hello --zip-file fileb://dist/function.zip --runtime-config RuntimeArn=arn:aws:lambda:us-east-1:123456789012:runtime/python-streaming,RuntimeAlias=live
aws lambda-core create-runtime-version --runtime-name python-streaming --name 2 --image-uri 123456789012.dkr.ecr.us-east-1.amazonaws.com/python-streaming:2
aws lambda-core wait runtime-version-active --runtime-name python-streaming --name 2
aws lambda-core update-runtime-alias --runtime-name python-streaming --name live --runtime-version 2
